"""Stored results for the tests of the page, and the strings that try to break out of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sample_rows import make_row

from tpubench.results.row import Row, to_table
from tpubench.results.store import Scan, Unreadable

WORK = {
    "prefill": {"flops": 10**9, "bytes": 10**7, "items": 64},
    "decode": {"flops": 10**8, "bytes": 10**8, "items": 28},
}
PEAKS = {"flop_s": 1e12, "bytes_s": 1e11, "source": "a data sheet", "measured": False}
PRICE = {
    "usd_per_chip_hour": 2.0,
    "price_id": "given",
    "price_as_of": "2026-01-01",
    "price_sha256": "0" * 64,
}
LATENCIES = {"ttft_s": 0.1, "tpot_s": 0.02, "itl_s": 0.02}
RATES = {"decode_tok_s": 400.0, "prefill_tok_s": 2000.0, "output_tok_s": 350.0}


def environment(**changes: Any) -> str:
    """What a row says of its machine, its work and its peaks, as stored."""
    parts = {
        "fingerprint": {
            "cpu_model": "A processor",
            "usable_cores": 2,
            "workload_sha256": "ab" * 32,
        },
        "host": {"os": "Linux"},
        "timing": {"steadiness": "steady", "passes": 3, "parity_error": 0.001},
        "work": WORK,
        "peaks": PEAKS,
    }
    return json.dumps({**parts, **changes})


def inference(
    *, batch: int = 1, repetitions: int = 3, priced: bool = True, **changes: Any
) -> list[Row]:
    """The rows of one case of llama-infer: latencies, rates and cost, a repetition each."""
    params = json.dumps({"batch": batch, "dtype": "bfloat16", "input_len": 16})
    rows = []
    for repetition in range(repetitions):
        factor = 1 + 0.01 * repetition
        common: dict[str, Any] = {"params": params, "repetition": repetition}
        common |= {"environment": environment()} | changes
        for metric, seconds in LATENCIES.items():
            rows.append(make_row(metric, [seconds * factor] * 30, **common))
        for metric, rate in RATES.items():
            rows.append(make_row(metric, [batch * rate / factor] * 5, **common))
        if priced:
            cost = 1e6 * 2.0 / (3600 * batch * RATES["output_tok_s"]) * factor
            rows.append(make_row("usd_per_mtok_out", [cost] * 5, **common, **PRICE))
    return rows


def limits(**changes: Any) -> list[Row]:
    """One row of gemm and one of hbm."""
    work = {"pass": {"flops": 2 * 512**3, "bytes": 3 * 512**2, "items": 1}}
    common = {"environment": environment(work=work)} | changes
    shape, kernel = json.dumps({"m": 512}), json.dumps({"kernel": "read"})
    return [
        make_row("flop_s", [1e11] * 5, workload="gemm", params=shape, **common),
        make_row("bandwidth_bytes_s", [1e10] * 5, workload="hbm", params=kernel, **common),
    ]


def failure(reason: str = "killed by SIGKILL", status: str = "failed", **changes: Any) -> Row:
    """The one row that a repetition without figures leaves."""
    params = {"params": json.dumps({"batch": 99})} | changes
    row = make_row("output_tok_s", [1.0])
    empty: dict[str, Any] = {"value": None, "ci_low": None, "ci_high": None, "samples": None}
    return replace(row, **{**empty, "status": status, "reason": reason, **params})


def scan(rows: Sequence[Row], unreadable: Sequence[Unreadable] = ()) -> Scan:
    """Rows as if they had been read from a store."""
    return Scan(table=to_table(list(rows)), unreadable=list(unreadable))


_ATTACKS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<body onload=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='jav&#x09;ascript:alert(1)'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<a xlink:href='javascript:alert(1)'>x</a>",
    "<b onmouseover=alert(1)>bold</b>",
    "<i style='color:expression(alert(1))'>x</i>",
    "<span style='position:fixed;top:0;left:0'>over the page</span>",
    "<math><mtext><img src=x onerror=alert(1)></mtext></math>",
    "<details open ontoggle=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<marquee onstart=alert(1)>",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>",
    "<form action=javascript:alert(1)><button>x</button></form>",
    "<base href=javascript:alert(1)//>",
    "<link rel=stylesheet href=https://evil.invalid/x.css>",
    "<meta http-equiv=refresh content='0;url=https://evil.invalid'>",
    "<style>@import 'https://evil.invalid/x.css';</style>",
    "<template><script>alert(1)</script></template>",
    "javascript:alert(1)",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;img src=x onerror=alert(1)&#62;",
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "{{ 7*7 }}{% raw %}{{ ''.__class__ }}",
    "${alert(1)}`${alert(1)}`",
    "%{alert(1)} %{x} %{customdata[0]}",
    "$\\frac{1}{$ $\\undefined",
    "$$\\href{javascript:alert(1)}{x}$$",
    "alert(1)//\u2028alert(1)//\u2029",
    "\u202e>tpircs<\u200b",
    "<sub><sup><br><em>x",
)
_FRAMES = ("{}", "\"'>{}<!--", "</script></style></title></textarea>{}")

ATTACKS = tuple(frame.replace("{}", attack) for frame in _FRAMES for attack in _ATTACKS)


def hostile(attacks: Sequence[str]) -> list[Row]:
    """Rows that hold each string in every text field, where it is charted and where it is not."""
    return [row for number, attack in enumerate(attacks) for row in _attack(number, attack)]


def _attack(number: int, attack: str) -> list[Row]:
    nested = {attack: attack, "list": [attack], "object": {attack: {attack: 1}}}
    text_fields = dict.fromkeys(
        (
            *("run_id", "reason", "workload", "preset", "backend", "device", "parallelism"),
            *("dtype", "price_id", "price_as_of", "price_sha256", "source", "fingerprint"),
            "git_sha",
        ),
        attack,
    )
    surroundings = environment(
        fingerprint=nested,
        host=nested,
        timing={"steadiness": attack, "passes": attack, "parity_tolerance": attack},
        work={**WORK, attack: WORK["prefill"]},
        peaks={**PEAKS, "source": attack},
    )
    common: dict[str, Any] = {**text_fields, "environment": surroundings}
    common["params"] = json.dumps({"batch": number, attack: attack})
    common["usd_per_chip_hour"] = 1.0
    charted = [
        make_row(metric, [1.0 + number] * 12, **common)
        for metric in (*LATENCIES, *RATES, "usd_per_mtok_out", "flop_s", "bandwidth_bytes_s")
    ]
    named = replace(make_row("ttft_s", [1.0], **common), metric=attack, unit=attack)
    raw = {**text_fields, "params": attack, "environment": attack}
    return [*charted, named, make_row("ttft_s", [1.0], **raw), failure(**raw)]

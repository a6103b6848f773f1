"""Random small plans with every kind of option in them, as TOML content."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

CHIPS = ("tpu-v6e", "nvidia-h100-sxm", "tpu-v7", "amd-mi300x", "nvidia-b200-sxm")
DATED = {"source": "random", "as_of": dt.date(2026, 11, 1)}


def random_plan(seed: int, *, most_years: int = 3, lots: bool = True) -> dict[str, Any]:
    """Two or three chips of at least two sides, priced so that they compete."""
    r = np.random.default_rng(seed)
    years = int(r.integers(1, most_years + 1))
    count = int(r.integers(2, 4))
    names = [CHIPS[(i + int(r.integers(0, 2))) % 2 + 2 * (i // 2)] for i in range(count)]
    names = list(dict.fromkeys([CHIPS[0], CHIPS[1], *names]))[:count]
    works = [f"work {w}" for w in range(int(r.integers(1, 3)))]
    quality = dict(zip(names, r.uniform(0.7, 1.4, len(names)), strict=True))
    content: dict[str, Any] = {
        "plan": {
            "name": f"random {seed}", "first_year": 2027, "years": years,
            "wacc": float(r.choice([0.0, 0.05, 0.1])), "utilisation": float(r.uniform(0.4, 1.0)),
            "tax_rate": float(r.choice([0.0, 0.21])), "resale_factor": float(r.uniform(0.3, 1.2)),
        },
        "site": {
            "usd_per_kwh": float(r.uniform(0.04, 0.12)), "pue": float(r.uniform(1.05, 1.4)),
            "colo_usd_per_kw_month": float(r.uniform(50, 200)),
            "idle_power_share": float(r.uniform(0, 0.5)), **DATED,
        },
        "workload": [
            {
                "name": w, "demand_mtok_first": float(r.uniform(2e5, 1e6)),
                "growth": float(r.uniform(-0.1, 0.6)), "price_usd_per_mtok": float(r.uniform(2, 9)),
            }
            for w in works
        ],
        "accelerator": [_chip(r, n, quality[n], years, lots=lots) for n in names],
        "throughput": [_pair(r, n, w, quality[n], years) for n in names for w in works],
    }  # fmt: skip
    limits: dict[str, Any] = {}
    if r.random() < 0.3:
        limits["capex_usd"] = float(r.uniform(5e5, 6e6))
    if r.random() < 0.3:
        limits["megawatts"] = [float(r.uniform(0.02, 0.3)) for _ in range(years)]
    if r.random() < 0.2:
        limits["vendor_share"] = {"Google": float(r.uniform(0.4, 0.9))}
    content["limits"] = limits
    if r.random() < 0.5:
        chance = float(r.uniform(0.2, 0.8))
        content["scenario"] = [
            {"name": "as planned", "probability": chance},
            {
                "name": "other", "probability": 1 - chance,
                "demand": {"all": float(r.uniform(0.8, 1.3))},
                "rent_price": {names[0]: float(r.uniform(0.5, 1.5))},
                "readiness": {"Google": float(r.uniform(0.6, 1.0))},
                "delay_months": {"Google": float(r.integers(0, 7))},
                "contract_delay_months": {names[-1]: float(r.integers(0, 5))},
                "supply": {names[-1]: float(r.uniform(0.5, 1.0))},
            },
        ]  # fmt: skip
    return content


def _chip(
    r: np.random.Generator, name: str, quality: float, years: int, *, lots: bool
) -> dict[str, Any]:
    hour = 2.5 * quality * float(r.uniform(0.75, 1.3))
    lot = int(r.choice([1, 4])) if lots else 1
    chip: dict[str, Any] = {
        "name": name, "kw": float(r.uniform(0.5, 1.5)),
        "rent": {
            "usd_per_chip_hour": hour * 1.3, "max_chips": 50_000.0, "lot": lot,
            "change_per_year": float(r.uniform(-0.25, 0.05)), **DATED,
        },
    }  # fmt: skip
    if r.random() < 0.8:
        chip["buy"] = {
            "capex_usd": 30_000.0 * quality * float(r.uniform(0.7, 1.3)), "lot": lot,
            "max_chips": float(r.integers(20, 400)), "life_years": float(r.uniform(2, 6)),
            "opex_rate": float(r.uniform(0, 0.06)), "availability": float(r.uniform(0.9, 1)),
            "lead_months": float(r.integers(0, 10)),
            "capex_change_per_year": float(r.uniform(-0.2, 0.05)), **DATED,
        }  # fmt: skip
        if r.random() < 0.5:
            chip["buy"]["residual_curve"] = np.sort(r.uniform(0, 0.9, 4))[::-1].tolist()
        else:
            chip["buy"]["residual_share"] = float(r.uniform(0, 0.3))
        if r.random() < 0.5:
            chip["buy"]["depreciation_years"] = float(r.uniform(2, 7))
    if r.random() < 0.7:
        chip["commit"] = [_commit(r, hour, lot, years)]
    if r.random() < 0.4:
        term = int(r.integers(1, 4))
        chip["contract"] = [
            {
                "name": "dollars", "usd_per_chip_hour": hour * float(r.uniform(0.6, 1.1)),
                "term_years": term, "max_chips": r.uniform(20, 200, term).tolist(),
                "minimum_usd_per_year": r.uniform(1e5, 2e6, term).tolist(),
                "signed": bool(r.random() < 0.5), "lead_months": float(r.integers(0, 8)),
                "price_steps": r.uniform(0.8, 1.1, term).tolist(),
                "prepay_share": float(r.choice([0.0, 0.3])), **DATED,
            }
        ]  # fmt: skip
    return chip


def _commit(r: np.random.Generator, hour: float, lot: int, years: int) -> dict[str, Any]:
    term = int(r.integers(1, 5))
    deal: dict[str, Any] = {
        "name": "term", "usd_per_chip_hour": hour * float(r.uniform(0.7, 1.1)), "lot": lot,
        "term_years": term, "max_chips": float(r.integers(20, 300)),
        "lead_months": float(r.integers(0, 8)), "ramp": np.sort(r.uniform(0.3, 1, term)).tolist(),
        "price_steps": r.uniform(0.8, 1.05, term).tolist(),
        "prepay_share": float(r.choice([0.0, 0.25])), "on_site": bool(r.random() < 0.3), **DATED,
    }  # fmt: skip
    if r.random() < 0.4:
        deal["min_chips"] = float(r.integers(1, 20))
    if term > 1 and r.random() < 0.5:
        deal["exit_after_years"] = int(r.integers(1, term))
        deal["exit_fee_share"] = float(r.uniform(0.05, 0.6))
    return deal


def _pair(
    r: np.random.Generator, name: str, work: str, quality: float, years: int
) -> dict[str, Any]:
    pair: dict[str, Any] = {
        "accelerator": name, "workload": work, "evidence": "assumed", "source": "random",
        "tok_s": 1000 * quality * float(r.uniform(0.8, 1.25)),
    }  # fmt: skip
    if name.startswith("tpu-"):
        ready = np.clip(r.uniform(0.5, 1.0) + 0.15 * np.arange(years), 0, 1)
        pair["readiness"] = ready.tolist()
        pair["porting_usd"] = float(r.choice([0.0, r.uniform(1e4, 4e5)]))
        pair["porting_months"] = float(r.integers(0, 9))
    return pair


def toml(content: dict[str, Any]) -> str:
    """The content as a TOML file."""
    lines: list[str] = []
    for key in ("plan", "site", "limits"):
        lines.append(f"[{key}]")
        lines += [f"{name} = {_value(value)}" for name, value in content[key].items()]
    for key in ("workload", "throughput", "scenario"):
        for entry in content.get(key, []):
            lines.append(f"[[{key}]]")
            lines += [f"{name} = {_value(value)}" for name, value in entry.items()]
    for chip in content["accelerator"]:
        lines.append("[[accelerator]]")
        tables = {"buy", "rent", "commit", "contract"}
        lines += [f"{k} = {_value(v)}" for k, v in chip.items() if k not in tables]
        for way in ("buy", "rent"):
            if way in chip:
                lines.append(f"[accelerator.{way}]")
                lines += [f"{k} = {_value(v)}" for k, v in chip[way].items()]
        for way in ("commit", "contract"):
            for deal in chip.get(way, []):
                lines.append(f"[[accelerator.{way}]]")
                lines += [f"{k} = {_value(v)}" for k, v in deal.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(_value(part) for part in value)}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{k}" = {_value(v)}' for k, v in value.items()) + " }"
    if isinstance(value, dt.date):
        return value.isoformat()
    return repr(value if isinstance(value, int) else float(value))

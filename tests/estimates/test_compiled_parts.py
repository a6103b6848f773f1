"""The parts of a compiled estimate that need no compiler: targets, wire, costs, times, children."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from compiled_cases import request
from hypothesis import given
from hypothesis import strategies as st

from tpubench.devices.sheets import device
from tpubench.errors import RunFailedError, UsageError
from tpubench.estimates.compiled import children, timing
from tpubench.estimates.compiled.hlo import Exchange, ProgramCost, cost
from tpubench.estimates.compiled.targets import target
from tpubench.suite.compiling.stablehlo import annotated
from tpubench.suite.compiling.wire import fields, message, varint

F32, BF16, TOKEN = 11, 16, 17


def test_clocks_follow_from_peaks_and_matrix_units() -> None:
    clocks = {name: target(name).clock_hz / 1e9 for name in ("v4", "v5e", "v5p", "v6e", "v7")}
    assert clocks == {"v4": 1.05, "v5e": 1.5, "v5p": 1.75, "v6e": 1.75, "v7": 2.2}


def test_a_slice_is_the_one_that_the_cloud_offers() -> None:
    assert target("v6e", 8).topology == "v6e:2x4"
    assert target("tpu-v5p", 16).topology == "v5p:2x2x4"
    assert (target("v7", 4).topology, target("v7", 4).devices) == ("tpu7x:2x2x1", 8)
    assert target("v5e", topology="v5e:4x8").chips == 32
    assert target("v6e", 256).chips == 256


def test_a_model_of_no_repeated_layers_is_compiled_whole_and_says_so() -> None:
    """The whole U-Net was once said to be "one and two, extrapolated"."""
    settings = {"batch": ["2"]}
    for workload, preset, depths in (
        ("sdxl-unet", "sdxl", [1]),
        ("vit-l16", "vit-l16", [1, 2]),
        ("llama-infer", "llama-3.1-8b", [1, 2]),
    ):
        assert request(workload, preset, 1, settings).depths == depths
    assert request("llama-infer", "llama-3.1-8b", 1, settings, full=True).depths == [32]


@pytest.mark.parametrize(
    ("name", "chips", "topology", "said"),
    [
        ("v9", 1, None, "knows v4, v5e, v5p, v6e, v7"),
        ("nvidia-h100-sxm", 1, None, "tpubench estimate"),
        ("v6e", 3, None, "no v6e slice has 3 chips"),
        ("v6e", 1, "2x2x2", "v6e is NxN"),
        ("v5p", 1, "2x2", "v5p is NxNxN"),
        ("v6e", 1, "2xtwo", "not of the form"),
        ("v6e", 1, "0x4", "not of the form"),
        ("v5p", 1, "16x16x16", "at most 512"),
    ],
)
def test_an_unknown_slice_is_an_error(
    name: str, chips: int, topology: str | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        target(name, chips, topology)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 2**63)), max_size=8))
def test_what_is_written_on_the_wire_is_read_back(pairs: list[tuple[int, int]]) -> None:
    data = b"".join(message({number: [value]}) for number, value in pairs)
    assert list(fields(data)) == pairs


@given(st.binary(max_size=200))
def test_damaged_messages_are_an_error_of_their_own(data: bytes) -> None:
    with pytest.raises(RunFailedError, match="cannot be read"):
        cost(data)


def shape(kind: int, *sizes: int, space: int = 0) -> bytes:
    layout = message({1: list(reversed(range(len(sizes)))), 8: [space]})
    return message({2: [kind], 3: [b"".join(varint(size) for size in sizes)], 5: [layout]})


def several(*shapes: bytes) -> bytes:
    return message({2: [13], 4: list(shapes)})


def op(
    known: int, opcode: str, of: bytes, *operands: int, cycles: int | None = None, **more: int | str
) -> bytes:
    fields: dict[int, list[int | bytes]] = {2: [opcode.encode()], 3: [of]}
    if "number" in more:
        fields[9] = [int(more["number"])]
    if "target" in more:
        fields[28] = [str(more["target"]).encode()]
    fields[35] = [known]
    if operands:
        fields[36] = [b"".join(varint(operand) for operand in operands)]
    if "calls" in more:
        fields[38] = [varint(int(more["calls"]))]
    if cycles is not None:
        fields[43] = [f'{{"window_config":{{"estimated_cycles":"{cycles}"}}}}'.encode()]
    if "group" in more:
        fields[49] = [message({1: [b"".join(varint(i) for i in range(int(more["group"])))]})]
    return message(fields)


def module(entry: list[bytes], *called: tuple[int, int, list[bytes]]) -> bytes:
    """A module of an entry computation, number 1, and of those that it calls."""
    computations = [message({2: entry, 5: [1], 6: [0]})]
    computations += [message({2: ops, 5: [known], 6: [root]}) for known, root, ops in called]
    return message({1: [message({3: computations, 6: [1]})]})


def test_costs_are_counted_by_where_the_bytes_live() -> None:
    weights, x = shape(BF16, 1024, 1024), shape(BF16, 8, 1024, space=1)
    program_cost = cost(
        module(
            [
                op(10, "parameter", weights, number=0),
                op(11, "parameter", x, number=1),
                op(12, "fusion", x, 11, 10, cycles=1000),  # streams the weights
                op(13, "fusion", x, 12, cycles=200),  # stays on the chip
                op(14, "copy-start", several(shape(BF16, 1024, 1024, space=1), weights), 10),
                op(15, "copy-done", shape(BF16, 1024, 1024, space=1), 14),
                op(16, "custom-call", x, 13, target="tpu_custom_call"),
                op(17, "custom-call", x, 16, target="ConcatBitcast"),
                op(18, "all-reduce", shape(F32, 8, 1024, space=1), 17, group=4),
            ]
        )
    )
    assert (program_cost.cycles, program_cost.streaming_cycles) == (1200, 1000)
    assert (program_cost.streaming_bytes, program_cost.prefetch_bytes) == (2 * 1024**2, 2 * 1024**2)
    assert program_cost.collectives == (Exchange(kind="all-reduce", bytes=4 * 8 * 1024, devices=4),)
    assert program_cost.custom_calls == {"tpu_custom_call": 1}
    assert program_cost.uncovered == {"copy-start": 1, "custom-call": 1, "all-reduce": 1}


def test_a_gather_reads_what_it_picks_and_an_update_writes_what_is_new() -> None:
    table, row = shape(BF16, 100_000, 1024), shape(BF16, 8, 1024)
    inner = [
        op(20, "parameter", table, number=0),
        op(21, "bitcast", table, 20),
        op(22, "gather", row, 21),
    ]
    read = cost(
        module(
            [
                op(10, "parameter", table, number=0),
                op(11, "fusion", shape(BF16, 8, 1024, space=1), 10, cycles=9, calls=2),
            ],
            (2, 22, inner),
        )
    )
    assert read.streaming_bytes == 2 * 8 * 1024
    update = [
        op(30, "parameter", table, number=0),
        op(31, "parameter", row, number=1),
        op(32, "dynamic-update-slice", table, 30, 31),
    ]
    written = cost(
        module(
            [
                op(10, "parameter", table, number=0),
                op(12, "parameter", row, number=1),
                op(11, "fusion", table, 10, 12, cycles=9, calls=2),
            ],
            (2, 32, update),
        )
    )
    assert written.streaming_bytes == 2 * 2 * 8 * 1024


def test_an_exchange_is_found_inside_what_hides_it() -> None:
    small = shape(BF16, 64)
    program_cost = cost(
        module(
            [op(10, "parameter", small, number=0), op(11, "async-start", small, 10, calls=2)],
            (2, 20, [op(20, "custom-call", small, calls=3, target="SparseCore")]),
            (3, 30, [op(30, "all-gather", small)]),
        ),
        devices=8,
    )
    assert program_cost.collectives == (Exchange(kind="all-gather", bytes=128, devices=8),)


def test_traffic_of_the_caches_can_be_left_to_the_attention() -> None:
    cache = shape(BF16, 1024, 1024)
    entry = [
        op(10, "parameter", cache, number=3),
        op(11, "copy-start", several(shape(BF16, 1024, 1024, space=1), cache), 10),
        op(12, "copy-done", shape(BF16, 1024, 1024, space=1), 11),
    ]
    assert cost(module(entry)).prefetch_bytes == 2 * 1024**2
    assert cost(module(entry), elsewhere=[3]).prefetch_bytes == 0


def plain(cycles: float, **more: float) -> ProgramCost:
    base = {"streaming_cycles": 0.0, "streaming_bytes": 0.0, "prefetch_bytes": 0.0}
    return ProgramCost(cycles=cycles, **{**base, **more})


NOTHING = timing.AttentionCost(flops=0, cache_bytes=0, calls=0)


def test_the_dense_part_is_the_largest_of_its_bounds() -> None:
    v6e = target("v6e")
    peak, bandwidth = v6e.peak_flop_s("bfloat16"), v6e.hbm_bytes_s

    def dense(cost_: ProgramCost, flops: float = 0) -> tuple[float, str]:
        time = timing.step_time(cost_, NOTHING, flops=flops, dtype="bfloat16", target=v6e)
        return time.dense_s, time.bound

    assert dense(plain(1.75e6)) == (pytest.approx(1e-3), "cycles")
    assert dense(plain(1.0), flops=peak * 1e-3) == (pytest.approx(1e-3), "flops")
    streaming = plain(
        1.75e6, streaming_cycles=1.75e6, streaming_bytes=1.0, prefetch_bytes=bandwidth * 1e-3
    )
    # A prefetch cannot hide behind an operation that streams.
    assert dense(streaming) == (pytest.approx(2e-3), "hbm")
    hidden = plain(1.75e6, prefetch_bytes=bandwidth * 1e-3 / 2)
    assert dense(hidden) == (pytest.approx(1e-3), "cycles")


def test_attention_of_a_decode_step_is_its_cache_over_the_bandwidth() -> None:
    call = {"batch": 8, "heads": 8, "queries": 4, "keys": 2048, "head_dim": 128, "cached": 256,
            "kv_heads": 8, "itemsize": 2, "causal": False, "products": 2}  # fmt: skip
    added = timing.attention([call], 1536, 32)
    assert added.cache_bytes == 32 * 2 * 8 * 8 * 1536 * 128 * 2
    assert added.flops == 32 * 4 * 8 * 32 * 1536 * 128
    v6e = target("v6e")
    time = timing.step_time(plain(0.0), added, flops=0, dtype="bfloat16", target=v6e)
    expected = added.cache_bytes / (1638e9 * timing.ATTENTION_HBM_SHARE)
    assert time.attention_s == pytest.approx(expected)


def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather() -> None:
    v6e = target("v6e", 4)  # 2x2: one link on each of two axes, 100 GB/s each way
    assert v6e.link_bytes_s == pytest.approx(800e9 / 8)
    gather = Exchange(kind="all-gather", bytes=2**20, devices=4)
    once = 0.75 * 2**20 / 200e9 + 2 * timing.HOP_LATENCY_S
    assert timing.exchange_s(gather, v6e) == pytest.approx(once)
    reduce = Exchange(kind="all-reduce", bytes=2**20, devices=4)
    assert timing.exchange_s(reduce, v6e) == pytest.approx(2 * once)
    scatter = Exchange(kind="reduce-scatter", bytes=2**18, devices=4)
    assert timing.exchange_s(scatter, v6e) == pytest.approx(once)
    alone = Exchange(kind="all-reduce", bytes=2**20, devices=1)
    assert timing.exchange_s(alone, v6e) == 0


def test_rings_have_twice_the_links_and_half_the_way() -> None:
    line, ring = target("v6e", topology="1x8"), target("v6e", topology="1x16")
    gather = Exchange(kind="all-gather", bytes=2**30, devices=8)
    wide = Exchange(kind="all-gather", bytes=2**30, devices=16)
    assert timing.exchange_s(wide, ring) < timing.exchange_s(gather, line) * 0.6


@given(st.integers(2, 128), st.floats(0, 1e9), st.floats(0, 1e9))
def test_layers_beyond_the_second_cost_what_the_second_added(
    layers: int, head: float, layer: float
) -> None:
    each = Exchange(kind="all-reduce", bytes=1024, devices=4)
    nothing = {"streaming_cycles": 0, "streaming_bytes": 0, "prefetch_bytes": 0}
    one = ProgramCost(
        cycles=head + layer, collectives=(each,) * 3, uncovered={"copy": 5},
        custom_calls={"k": 1}, **nothing,
    )  # fmt: skip
    two = ProgramCost(
        cycles=head + 2 * layer, collectives=(each,) * 5, uncovered={"copy": 8},
        custom_calls={"k": 2}, **nothing,
    )  # fmt: skip
    whole = timing.extrapolate(one, two, layers)
    assert math.isclose(whole.cycles, head + layers * layer, rel_tol=1e-6, abs_tol=1e-3)
    assert len(whole.collectives) == 1 + 2 * layers
    assert whole.uncovered == {"copy": 2 + 3 * layers}
    assert whole.custom_calls == {"k": layers}


CACHE, TOKENS = "tensor<8x16x4xbf16>", "tensor<8x1xi64>"
PROGRAM = f"""module @m {{
  func.func @main(%arg0: tensor<64x32xbf16>, %arg1: {CACHE}) -> ({CACHE}, {TOKENS}) {{
    return %arg1, %0 : {CACHE}, {TOKENS}
  }}
}}
"""


def test_a_program_says_how_it_is_cut_and_what_is_updated_in_place() -> None:
    args = [{"cut": 0, "becomes": None}, {"cut": 1, "becomes": 0}]
    text = annotated(PROGRAM, args, resident=2**30 + 5, devices=4)
    head = text.splitlines()[1]
    assert 'tensor<64x32xbf16> {mhlo.sharding = "{devices=[4,1]<=[4]}"}' in head
    assert '%arg1: tensor<8x16x4xbf16> {mhlo.sharding = "{devices=[1,4,1]<=[4]}",' in head
    assert "tf.aliasing_output = 0 : i32" in head
    assert f"%resident0: tensor<{4 * 2**30}xi8>" in head
    assert "%resident1: tensor<20xi8>" in head
    # An output that replaces an argument is cut like it; the other is whole on every chip.
    assert head.endswith(
        '-> (tensor<8x16x4xbf16> {mhlo.sharding = "{devices=[1,4,1]<=[4]}"},'
        ' tensor<8x1xi64> {mhlo.sharding = "{replicated}"}) {'
    )
    cut = annotated(PROGRAM, args, resident=0, devices=4, result_cut=0).splitlines()[1]
    assert cut.endswith('tensor<8x1xi64> {mhlo.sharding = "{devices=[4,1]<=[4]}"}) {')
    alone = annotated(PROGRAM, args, resident=0, devices=1).splitlines()[1]
    assert "sharding" not in alone
    assert "aliasing_output" in alone


def test_a_program_that_is_not_what_was_described_is_refused() -> None:
    with pytest.raises(RunFailedError, match="2 arguments, 1 were expected"):
        annotated(PROGRAM, [{"cut": None, "becomes": None}], resident=0, devices=1)
    with pytest.raises(RunFailedError, match="no main"):
        annotated("module {}", [], resident=0, devices=1)


def child(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> str:
    """The name of a module that runs ``code`` as a child."""
    (folder / "a_child.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return "a_child"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.abort()", "compiling failed: killed by SIGABRT"),
        ("import torch_tpu_that_is_not_there", "no torch_tpu_that_is_not_there: pip install"),
        (
            "import sys, os; print('F0000 compilation.cc:533] ABORTED: Internal error when"
            " accessing libtpu multi-process lockfile', file=sys.stderr, flush=True); os.abort()",
            "another process holds libtpu's lockfile",
        ),
        ("raise ValueError('a reason')", "compiling failed: ValueError: a reason"),
        ("import time; time.sleep(60)", "took longer than 1 s"),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_a_child_that_dies_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    name = child(tmp_path, monkeypatch, code)
    with pytest.raises(RunFailedError, match=said) as caught:
        timeout = 1 if "sleep" in code else 60
        children.ask(name, {}, python=sys.executable, timeout_s=timeout, what="compiling")
    assert "\n" not in str(caught.value)


def test_an_interpreter_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RunFailedError, match="cannot start /no/such/python"):
        children.ask("x", {}, python="/no/such/python", timeout_s=5, what="compiling")


def test_every_generation_has_a_data_sheet() -> None:
    for name in ("v4", "v5e", "v5p", "v6e", "v7"):
        assert device(target(name).generation.device).hbm_bytes_s

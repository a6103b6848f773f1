"""``attention``: scaled dot-product attention alone, over a prompt or for one new token.

A prompt's attention is limited by arithmetic and a decode step's by memory, so both fractions are
given and the roofline says which one counts. Shapes are those of one layer of the model that the
preset names; query heads share key/value heads (grouped-query attention, Ainslie et al., 2023).

    tpubench run --workload attention --preset llama-3.1-8b --set phase=decode,batch=64
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tpubench.suite.workload import (
    DTYPES,
    Case,
    Checks,
    Device,
    Laps,
    Mark,
    Means,
    Parameter,
    Parity,
    Phase,
    Program,
    Step,
    Timed,
    UsageError,
    Weights,
    Work,
    Workload,
)
from tpubench.workloads._row_checks import judged, precision, worst

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_HEADS = {
    "llama-3.1-8b": (32, 8, 128),
    "llama-3.1-70b": (64, 8, 128),
    "multi-head": (16, 16, 64),
    "tiny": (4, 2, 16),
}
"""Query heads, key/value heads and the size of a head."""
_PHASES = ("prefill", "decode")


class AttentionOnly(Workload):
    """Attention by itself: causal over a prompt, or one token over a filled cache."""

    name = "attention"
    version = 1
    summary = "scaled dot-product attention: a prompt's, and a decode step's over its cache"
    presets: ClassVar[Mapping[str, str]] = {
        "llama-3.1-8b": "32 query heads, 8 key/value heads of 128: a layer of 8B",
        "llama-3.1-70b": "64 query heads, 8 key/value heads of 128: a layer of 70B",
        "multi-head": "16 heads of 64, none shared: a layer of ViT-L or BERT-large",
        "tiny": "4 query heads, 2 key/value heads of 16",
    }
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "phase": Parameter(
            default="prefill",
            choices=_PHASES,
            doc="prefill: causal over a whole prompt; decode: one token over what came before",
        ),
        "batch": Parameter(default=1, minimum=1, doc="sequences"),
        "context": Parameter(default=1024, minimum=1, doc="tokens of each sequence"),
        "steps": Parameter(default=1, minimum=1, doc="calls a pass"),
        "dtype": Parameter(default="bfloat16", choices=tuple(DTYPES), doc="precision"),
        "seed": Parameter(default=0, minimum=0, doc="seed of queries, keys and values"),
    }
    primary_metric = "step_time_s"
    fractions: ClassVar[Mapping[str, str]] = {"mfu": "pass", "mbu": "pass"}

    def default_preset(self, accelerator: bool) -> tuple[str, str]:
        del accelerator
        return "llama-3.1-8b", "a layer of the size that most devices serve"

    def shape(self, preset: str) -> Mapping[str, object]:
        return dict(zip(("heads", "kv_heads", "head_dim"), _HEADS[preset], strict=True))

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        if preset == "tiny":
            return [{"phase": phase, "batch": 2, "context": 48} for phase in _PHASES]
        prompts = [1024, 8192, 32768] if accelerator else [1024]
        prefill: list[dict[str, int | str]] = [
            {"phase": "prefill", "context": length} for length in prompts
        ]
        cache = 8192 if accelerator else 1024
        return prefill + [
            {"phase": "decode", "batch": batch, "context": cache}
            for batch in ((1, 8, 64) if accelerator else (1, 8))
        ]

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        del weights
        return _build(case, device)

    def checks(self, case: Case, step: Step, means: Means) -> Checks:
        return lambda: _checked(case, step, means)

    def phases(self, case: Case) -> Mapping[str, Phase]:
        return {str(case.params["phase"]): Phase(runs=case.number("steps"))}

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        del phase, depth
        return _program(case, chips)

    def work(self, case: Case) -> Work:
        """4 FLOPs for each element of a head and pair of a query with a key that it may see: half
        for the score, half for the mix. Queries, keys, values and results move once."""
        B, S, steps = (case.number(key) for key in ("batch", "context", "steps"))
        N, K, H = _heads(case)
        queries = S if case.params["phase"] == "prefill" else 1
        pairs = S * (S + 1) // 2 if queries > 1 else S
        return Work(
            items=steps,
            unit="call",
            flops=4 * B * N * H * pairs * steps,
            bytes=2 * B * H * (N * queries + K * S) * DTYPES[case.dtype] * steps,
        )

    def memory_bytes(self, case: Case) -> int:
        return self.work(case).bytes // case.number("steps")

    def measure(self, case: Case, windows: Mapping[str, Timed]) -> Laps:
        steps, work = case.number("steps"), self.work(case)
        pass_s = windows["pass"].passes_s
        return Laps(
            samples={
                "step_time_s": [t / steps for t in pass_s],
                "flop_s": [work.flops / t for t in pass_s],
                "bandwidth_bytes_s": [work.bytes / t for t in pass_s],
            }
        )


def _heads(case: Case) -> tuple[int, int, int]:
    heads, kv_heads, head_dim = (int(str(case.shape[k])) for k in ("heads", "kv_heads", "head_dim"))
    return heads, kv_heads, head_dim


def _module(k_BKSH: Tensor, v_BKSH: Tensor, *, causal: bool) -> Any:
    """Attention of queries to a cache that it holds, so that no replay copies the cache."""
    import torch
    import torch.nn.functional as F

    class Attend(torch.nn.Module):
        keys: Tensor
        values: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("keys", k_BKSH)
            self.register_buffer("values", v_BKSH)

        def forward(self, queries: Tensor) -> Tensor:
            """A decode step's query heads stand in for the length, so no key is repeated."""
            shared = queries.shape[1] != self.keys.shape[1]
            return F.scaled_dot_product_attention(
                queries, self.keys, self.values, is_causal=causal, enable_gqa=shared
            )

    return Attend()


def _sizes(case: Case) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the queries, as the program takes them, and of the keys and of the values."""
    B, S = case.number("batch"), case.number("context")
    N, K, H = _heads(case)
    queries = (B, N, S, H) if case.params["phase"] == "prefill" else (B, K, N // K, H)
    return queries, (B, K, S, H)


_SCORE_STD = 2.0
"""Standard deviation of the scores: a query looks at a few of its keys, not at all alike."""


def _build(case: Case, device: Device) -> Step:
    import torch

    from tpubench.workloads._bound import Bound  # which needs torch

    dtype: torch.dtype = getattr(torch, case.dtype)
    generator = torch.Generator().manual_seed(case.number("seed"))
    causal, steps = case.params["phase"] == "prefill", case.number("steps")
    queries, cached = _sizes(case)

    def drawn(shape: tuple[int, ...], size: float) -> Tensor:
        return (size * torch.randn(shape, generator=generator)).to(dtype).to(device.torch_device)

    class AttentionStep(Step):
        marks = (str(case.params["phase"]),)

        def __init__(self) -> None:
            self.q = drawn(queries, _SCORE_STD)
            self.y = torch.empty(0)
            self.attend = _module(drawn(cached, 1.0), drawn(cached, 1.0), causal=causal)
            self.module = self.attend
            self.mix: Callable[[], Tensor] = lambda: self.attend(self.q)

        def to_capture(self) -> torch.nn.Module:
            self.mix = bound = Bound(self.attend, self.q)
            return bound

        @torch.no_grad()
        def run(self, mark: Mark) -> None:
            for _ in range(steps):
                self.y = self.mix()
                self.flush()
            mark(self.y)

        @torch.no_grad()
        def change_operands(self, by: int) -> None:
            """Every head's keys and values ``by`` heads on, in place, values with their signs
            changed; queries along with them."""
            K = self.attend.keys.shape[1]
            self.q.copy_(self.q.roll(by * self.q.shape[1] // K, 1))
            self.attend.keys.copy_(self.attend.keys.roll(by, 1))
            self.attend.values.copy_(-self.attend.values.roll(by, 1))

        @torch.no_grad()
        def vary(self, by: int) -> bool:
            """Every element of the queries ``by`` places on."""
            self.q.copy_(self.q.view(-1).roll(by).view_as(self.q))
            return True

    return AttentionStep()


def _program(case: Case, chips: int) -> Program:
    """Each chip has its share of the heads."""
    import torch

    dtype: torch.dtype = getattr(torch, case.dtype)
    queries, cached = _sizes(case)
    if cached[1] % chips:
        raise UsageError(f"{cached[1]} key/value heads do not divide among {chips} chips")

    def empty(shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    causal = case.params["phase"] == "prefill"
    return Program(
        module=_module(empty(cached), empty(cached), causal=causal),
        inputs=(empty(queries),),
        split={"keys": 1, "values": 1, "queries": 1},
        result=1,
    )


_ROWS = 16
"""Queries, evenly spaced, that are compared with float64 on the host."""
_SCORES = 2**25
"""Scores computed at once for the comparison on the device: 128 MiB of float32."""
_TOLERANCE = {
    # a row of the result; any one element, as a share of the root mean square of its row
    "float32": (1e-5, 1e-4),
    "tf32": (4e-3, 3e-2),
    "bfloat16 products": (3e-2, 2e-1),
    "float16": (2.5e-3, 2e-2),
    "bfloat16": (2e-2, 1e-1),
}
"""A kernel rounds each weight of the mix to the precision of the values, and the result: 2.3e-3 and
1.6e-3 of a row in bfloat16, an eighth of that in float16, the worst of 10^8 elements six times as
much; one that stores its scores rounds them too, and errs by 1e-2 of a row (TorchTPU's plain
attention). TF32 and bfloat16 products of float32 round queries and keys too: scores with a standard
deviation of two err by 4e-4 · 2·√2 (TF32) and 2.3e-3 · 2·√2 of one, and each weight with them."""


def _checked(case: Case, step: Any, means: Means) -> list[Parity]:
    """What the last timed pass left: some queries held against the host, all against the device;
    then what one more pass gives with every head elsewhere and other signs."""
    import torch

    means.barrier()
    stated = precision(case, means)
    with torch.no_grad():
        given = step.y.to("cpu", torch.float32)
        module, where = step.attend, step.q.device
        rows = torch.arange(0, given.shape[2], max(1, given.shape[2] // _ROWS))
        ends = torch.tensor(sorted({0, len(given) - 1}))  # sequences: the first and the last
        q, k, v = (one.to("cpu") for one in (step.q, module.keys, module.values))
        causal = case.params["phase"] == "prefill"
        expected = formula(
            q[ends][:, :, rows].double(), k[ends].double(), v[ends].double(),
            rows if causal else None,
        )  # fmt: skip
        row_error = worst((given[ends][:, :, rows] - expected).norm(dim=-1) / expected.norm(dim=-1))
        with means.exact_float32():
            whole = torch.cat(
                [
                    torch.cat(list(_in_parts(sequence, where, means, causal=causal)), dim=1)
                    for sequence in zip(q, k, v, strict=True)
                ]
            ).view_as(given)
        spread = whole.square().mean(dim=-1, keepdim=True).sqrt()
        element_error = worst((given - whole).abs() / spread)
        step.change_operands(1)
        step.run(lambda *_: None)
        means.barrier()
        other = -step.y.to("cpu", torch.float32)
        other = other.roll(-(other.shape[1] // k.shape[1]), 1)
        other_error = worst((other - whole).abs() / spread)
        step.change_operands(-1)
    return judged(
        row=row_error,
        element=element_error,
        other=other_error,
        tolerance=_TOLERANCE[stated],
        rows=f"{len(rows)} queries a head",
        stated=stated,
    )


def _in_parts(
    sequence: tuple[Tensor, Tensor, Tensor], where: torch.device, means: Means, *, causal: bool
) -> Iterator[Tensor]:
    """One sequence's result from the formula, on the device, so many queries at a time that the
    scores take little memory; every part has the same shape, and is the same program."""
    import torch

    q_NLH, k_KSH, v_KSH = (one.float().to(where).unsqueeze(0) for one in sequence)
    queries, keys = q_NLH.shape[2], k_KSH.shape[2]
    at_once = max(1, min(queries, _SCORES // (q_NLH.shape[1] * keys)))
    for first in range(0, queries, at_once):
        positions = torch.arange(first, first + at_once).clamp_max(queries - 1)
        there = positions.to(where)
        part = formula(q_NLH.index_select(2, there), k_KSH, v_KSH, there if causal else None)
        means.flush()
        means.barrier()
        yield part[0].cpu()[:, : min(at_once, queries - first)]


def formula(q_BNLH: Tensor, k_BKSH: Tensor, v_BKSH: Tensor, positions_L: Tensor | None) -> Tensor:
    """softmax(QKᵀ/√H)·V by its definition (Vaswani et al., 2017), [B, N, L, H].

    positions_L: where each query stands, which sees keys up to itself; None where all are seen.
    """
    import torch

    B, N, L, H = q_BNLH.shape
    K, S = k_BKSH.shape[1:3]
    # Query heads of one key/value head follow one another.
    q_BKGLH = q_BNLH.reshape(B, K, N // K, L, H)
    scores = torch.einsum("bkglh,bksh->bkgls", q_BKGLH, k_BKSH) / H**0.5
    if positions_L is not None:
        seen_LS = torch.arange(S, device=positions_L.device) <= positions_L.unsqueeze(1)
        scores = scores.masked_fill(~seen_LS, float("-inf"))
    mixed = torch.einsum("bkgls,bksh->bkglh", scores.softmax(dim=-1), v_BKSH)
    return mixed.reshape(B, N, L, H)

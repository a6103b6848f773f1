"""What a hostile checkpoint is put through: everything that reads one before and in a run."""

from __future__ import annotations

import shutil
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch

from hostile import checkpoints
from hostile.checkpoint import Base, good_folder
from tpubench.errors import UsageError
from tpubench.suite.workload import Weights
from tpubench.workloads._checkpoint import digest, load, read_config
from tpubench.workloads.llama.infer import LlamaInfer
from tpubench.workloads.llama.model import Llama

TEXT = "abc <s> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"
SMALL = 5_000_000
"""Parameters of a model that is built: what a header may truthfully ask for can be anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An input that lies in its folder."""

    kind: str
    path: Path


class CheckpointTarget:
    """A folder for one checkpoint at a time."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.folder = folder
        self.base = Base(folder)
        for _ in range(2):  # imports and first allocations done before anything is measured
            path = self._fresh() / "good.gguf"
            path.write_bytes(self.base.gguf.whole())
            outcome = self._attempt(path)
            assert outcome == ("answered", ""), outcome
            outcome = self._attempt(good_folder(self.base, self._fresh()))
            assert outcome == ("answered", ""), outcome

    def _fresh(self) -> Path:
        folder = self.folder / "input"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def prepare(self, seed: int) -> Prepared:
        mutant = checkpoints.mutant(self.base, seed)
        return Prepared(kind=mutant.kind, path=mutant.write(self._fresh()))

    def attempt(self, given: Prepared) -> tuple[str, str]:
        """(outcome, detail) of one input."""
        return self._attempt(given.path)

    def _attempt(self, path: Path) -> tuple[str, str]:
        refused = False
        for name, step in (("load", _load), ("digest", _digest), ("tokenizer", _tokenize)):
            try:
                step(path)
            except UsageError as error:
                refused = True
                if "\n" in str(error) or not str(error).strip():
                    return "wrong", f"{name}: not one line: {str(error)[:100]!r}"
                if len(str(error)) > 1000 + len(str(path)):
                    return "wrong", f"{name}: a line of {len(str(error))} characters"
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise
                return "traceback", f"{name}: {_last()}"
        return ("refused", "") if refused else ("answered", "")


def _load(path: Path) -> None:
    config = read_config(path)
    if config.n_params <= SMALL:
        load(path, Llama(config, 8, torch.float32))


def _digest(path: Path) -> None:
    if path.exists():
        digest(path)


def _tokenize(path: Path) -> None:
    weights, workload = Weights(path=path), LlamaInfer()
    ids = workload.encode(TEXT, weights)
    workload.decode(ids, weights)


def _last() -> str:
    kind, error, trace = sys.exc_info()
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return f"{kind.__name__ if kind else ''} at {where}: {str(error)[:200]}"

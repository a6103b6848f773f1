"""Says which versions an interpreter has: ``python -m tpubench.estimates.compiled.installed``."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path


def version(name: str) -> str | None:
    """Installed version of a package; None when it is not there. Imports nothing of it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    """Entry of the child."""
    packages = json.loads(sys.stdin.readline())["packages"]
    answer = {"versions": {name: version(name) for name in packages}}
    Path(sys.argv[1]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()

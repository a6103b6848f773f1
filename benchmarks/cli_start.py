"""What the command line costs to start: CPU time of ``tpubench --help`` against a bare one.

    python benchmarks/cli_start.py [--rounds 15]

The peer is the least a typer and rich program can do: one command, its help printed. The promise is
at most 1.3 times its CPU time (user + system, children's, so that neighbours do not count).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

BARE = """
import typer, rich.console
app = typer.Typer(add_completion=False)
@app.command()
def run(name: str = 'x') -> None:
    "Do something."
@app.command()
def show(name: str = 'x') -> None:
    "Show something."
app()
"""
COMMANDS = {
    "bare typer + rich": [sys.executable, "-c", BARE, "--help"],
    "tpubench --help": [sys.executable, "-m", "tpubench.cli", "--help"],
}


def cpu_s(command: list[str]) -> float:
    """CPU seconds of one command."""
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    for command in COMMANDS.values():
        cpu_s(command)
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            seconds[name].append(cpu_s(command))
    bare, ours = seconds.values()
    for name, times in seconds.items():
        print(f"{name:18} median {1e3 * statistics.median(times):6.0f} ms CPU")
    ratio = statistics.median(b / a for a, b in zip(bare, ours, strict=True))
    print(f"ratio: median {ratio:.2f} over {rounds} rounds (promise: at most 1.30)")


if __name__ == "__main__":
    main()

"""Wheels for a machine without a package index: what tpubench needs that such a machine lacks.

    python -m pip list --format=freeze > there.txt        (on that machine, or by hand)
    python benchmarks/offline_wheels.py --there there.txt --python 3.12 --out .whl

Fills ``--out`` with this tree's own wheel and with those of its requirements, and of theirs, that
``there.txt`` does not name, for Python ``--python`` on x86-64 Linux. On the machine:

    python -m pip install --no-index --no-deps --target DIR .whl/*.whl && export PYTHONPATH=DIR

A line ``name==version`` of ``there.txt`` is held against what is required; a name alone counts as
new enough. Exit code 1 where something there is too old. Needs pip and ``packaging``.
"""

from __future__ import annotations

import argparse
import email
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *words], check=True)


def wheels(folder: Path) -> dict[str, Path]:
    return {canonicalize_name(path.name.split("-")[0]): path for path in folder.glob("*.whl")}


def requirements(wheel: Path, extra: str, python: str) -> Iterator[Requirement]:
    """Those of a wheel, with one of its extras, on that Python."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])
    where = {
        "extra": extra, "python_version": python, "python_full_version": f"{python}.0",
        "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64",
    }  # fmt: skip
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate(where):
            yield requirement


def packages_there(text: str) -> dict[str, str]:
    """Versions by name, empty where a line has the name alone."""
    pairs = (line.partition("==") for line in text.splitlines() if line[:1].isalnum())
    return {canonicalize_name(name.strip()): version.strip() for name, _, version in pairs}


def fill(folder: Path, there: dict[str, str], extra: str, python: str) -> list[str]:
    """Add to ``folder``, which holds one wheel, what that needs; what is there but too old."""
    (own,) = wheels(folder).values()
    wanted, old = list(requirements(own, extra, python)), list[str]()
    target = [word for platform in PLATFORMS for word in ("--platform", platform)]
    target += ["--python-version", python, "--implementation", "cp"]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in there:
            if there[name] and not requirement.specifier.contains(there[name], prereleases=True):
                old.append(f"{requirement} is needed, {there[name]} is there")
        elif name not in wheels(folder):
            exact = f"{requirement.name}{requirement.specifier}"
            pip(
                "download",
                "--no-deps",
                "--only-binary=:all:",
                *target,
                "--dest",
                str(folder),
                exact,
            )
            wanted += requirements(wheels(folder)[name], "", python)
    return old


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--there", type=Path, required=True, help="packages that are there")
    parser.add_argument("--python", default="3.12", help="version of the Python there")
    parser.add_argument("--extra", default="cuda", help="of tpubench, as cuda or cpu")
    parser.add_argument("--out", type=Path, default=Path(".whl"))
    options = parser.parse_args()
    there = packages_there(options.there.read_text("utf-8"))
    options.out.mkdir(parents=True, exist_ok=True)
    for stale in options.out.glob("*.whl"):
        stale.unlink()
    pip("wheel", "--no-deps", "--wheel-dir", str(options.out), str(ROOT))
    old = fill(options.out, there, options.extra, options.python)
    for path in sorted(options.out.glob("*.whl")):
        print(f"{path.stat().st_size / 2**20:7.1f} MiB  {path.name}")
    for line in old:
        print(line, file=sys.stderr)
    sys.exit(1 if old else 0)


if __name__ == "__main__":
    main()

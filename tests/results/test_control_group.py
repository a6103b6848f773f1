"""Limits of control groups, read from files laid out as the kernel lays them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpubench.results import control_group

GIB = 2**30


def laid_out(folder: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    mount = folder / "cgroup"
    for name, text in files.items():
        path = mount / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    (folder / "own").write_text(own)
    return mount, folder / "own"


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        # docker run --cpus 1.5: the container's namespace shows its group as the root
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {}, None),
        # a systemd service in a slice that is tighter than itself
        (
            "0::/a.slice/b.service\n",
            {"a.slice/cpu.max": "200000 100000", "a.slice/b.service/cpu.max": "400000 100000"},
            2.0,
        ),
        # a process that was moved into a namespace from outside
        ("0::/../../other\n", {"cpu.max": "100000 100000"}, 1.0),
        # version 1
        (
            "3:cpuset:/\n2:cpu,cpuacct:/docker/x\n",
            {
                "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        (
            "1:cpu:/\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("nonsense\n1\n::\n", {"cpu.max": "x y"}, None),
    ],
)
def test_the_tightest_quota_of_a_group_and_those_above_it_holds(
    tmp_path: Path, own: str, files: dict[str, str], quota: float | None
) -> None:
    assert control_group.cpu_quota(*laid_out(tmp_path, own, files)) == quota


@pytest.mark.parametrize(
    ("own", "files", "free"),
    [
        (
            "0::/\n",
            {
                "memory.max": str(4 * GIB),
                "memory.current": str(3 * GIB),
                "memory.stat": f"anon 5\ninactive_file {GIB}\nfile 7",
            },
            2 * GIB,
        ),
        ("0::/\n", {"memory.max": "max", "memory.current": "5"}, None),
        (
            "4:memory:/docker/x\n",
            {
                "memory/docker/x/memory.limit_in_bytes": str(2 * GIB),
                "memory/docker/x/memory.usage_in_bytes": str(GIB),
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/memory.usage_in_bytes": str(9 * GIB),
            },
            GIB,
        ),
        ("0::/\n", {"memory.max": "100", "memory.current": "500"}, 0),
        ("", {}, None),
    ],
)
def test_memory_is_free_up_to_the_tightest_limit(
    tmp_path: Path, own: str, files: dict[str, str], free: int | None
) -> None:
    assert control_group.free_memory_bytes(*laid_out(tmp_path, own, files)) == free


@pytest.mark.parametrize(
    ("cores", "quota", "whole"),
    [(8, None, 8), (8, 2.0, 2), (8, 1.5, 1), (8, 0.5, 1), (2, 16.0, 2)],
)
def test_a_part_of_a_core_is_not_counted(cores: int, quota: float | None, whole: int) -> None:
    """A thread more than there are cores' worth of time is stopped for part of every period."""
    assert control_group.whole_cores(cores, quota) == whole

"""Where caches lie, whatever the environment says, and which folders are believed."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from tpubench.results import cache_folder


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TPUBENCH_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        ({"TPUBENCH_CACHE": "~/own"}, "/home/me/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/tpubench"),
        ({"XDG_CACHE_HOME": "~/xdg"}, "/home/me/xdg/tpubench"),
        ({}, "/home/me/.cache/tpubench"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/tpubench"),
        # A relative one is void by the XDG specification: not a folder wherever one happens to be.
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/tpubench"),
        ({"HOME": "relative"}, None),
    ],
)
def test_the_environment_names_one_folder_for_all_caches(
    variables: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TPUBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me"} | variables).items():
        monkeypatch.setenv(name, value)
    root = cache_folder.root()
    assert (None if root is None else str(root)) == expected


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as a number that no password file knows."""

    def unknown(number: int) -> None:
        raise KeyError(number)

    for name in ("TPUBENCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert cache_folder.root() is None


def test_a_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    assert cache_folder.usable(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_what_the_group_may_write_is_taken_back(tmp_path: Path) -> None:
    """A umask of 002 makes all folders so."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o775)
    assert cache_folder.usable(tmp_path / "shared")
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o700


def test_what_anybody_may_write_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert not cache_folder.usable(tmp_path / "open")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_what_is_somebody_elses_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    assert not cache_folder.usable(tmp_path / "theirs")


def test_a_file_in_its_place_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not cache_folder.usable(tmp_path / "file")
    assert not cache_folder.usable(tmp_path / "file" / "below")


def test_sizes_do_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "cache" / "a").mkdir(parents=True)
    (tmp_path / "cache" / "a" / "file").write_bytes(bytes(1000))
    (tmp_path / "elsewhere").write_bytes(bytes(10**6))
    (tmp_path / "cache" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "cache" / "loop").symlink_to(tmp_path / "cache")
    assert 1000 <= cache_folder.size_bytes(tmp_path / "cache") < 2000
    assert cache_folder.size_bytes(tmp_path / "none") == 0

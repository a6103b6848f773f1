"""A store in a bucket, against a real S3 server on loopback (moto's): what a folder promises, or a
plain word.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import tampering
from botocore.exceptions import ClientError
from command_line import Call, caller
from moto.server import ThreadedMotoServer
from sample_rows import make_row

import tpubench.results
from tpubench.errors import UsageError
from tpubench.results import labels, object_storage, runs
from tpubench.results import store as facts
from tpubench.results.compact import compact
from tpubench.results.merge import merge
from tpubench.results.sealing import manifest
from tpubench.results.sealing.check import check
from tpubench.results.sealing.seal_store import seal

URL = "s3://facts/buyer"
RUN = "20260101T000000-aaaaaa"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The client of an S3 server that only this test sees."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()  # what tests before it left in this process
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    import fsspec

    fsspec.get_filesystem_class("s3").clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="facts")
    yield client
    object_storage._OPEN.clear()
    server.stop()


def keys(bucket: Any) -> list[str]:
    listed = bucket.list_objects_v2(Bucket="facts").get("Contents", [])
    return sorted(each["Key"].removeprefix("buyer/") for each in listed)


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> Path:
    """The same store, opened on another machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
    return object_storage.located(URL)


def test_what_one_machine_stores_another_reads(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = object_storage.located(URL)
    facts.prepare(here)
    assert keys(bucket) == [], "the probe is gone"
    manifest.close([facts.write(here, "case-0", [make_row(run_id=RUN)])])
    labels.say(here, RUN, tags=["baseline"])
    there = elsewhere(monkeypatch, tmp_path, "other")
    assert there != here and len(facts.files(there)) == 1
    assert labels.of_run(there, RUN).tags == ("baseline",)
    assert check(there).ok and check(there).covered == 1
    facts.write(there, "case-1", [make_row(run_id=RUN, repetition=1)])
    assert len(facts.files(object_storage.located(URL))) == 2
    assert tpubench.results.read(URL).shape[0] == 2


def test_a_name_is_given_once_whoever_is_first(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conditional write, as S3 has it: neither a lock nor a look before."""
    here = object_storage.located(URL)
    there = elsewhere(monkeypatch, tmp_path, "other")
    first = facts.write(here, "case-0", [make_row(run_id=RUN)])
    with pytest.raises(UsageError, match="facts are never overwritten"):
        facts.write(there, "case-0", [make_row(run_id=RUN, samples=[9.0])])
    again = elsewhere(monkeypatch, tmp_path, "third")
    assert facts.files(again).files[0].read_bytes() == first.read_bytes()


def test_deleting_restoring_sealing_and_merging_reach_the_bucket(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = object_storage.located(URL)
    tampering.build(here, random.Random(1))
    head = seal(here).head
    run = sorted(path.name for path in here.glob("2026*"))[0]
    runs.delete(here, run)
    there = elsewhere(monkeypatch, tmp_path, "other")
    assert len(facts.files(there)) == 6 and runs.deleted(there) == [run]
    assert "deleted since" in check(there, head=head).not_covered[0].reason
    runs.restore(there, run)
    seal(there)
    seal_check = check(elsewhere(monkeypatch, tmp_path, "third"), head=head)
    assert seal_check.ok and seal_check.chained == 9 and not seal_check.not_covered
    merge([there], tmp_path / "folder")
    assert check(tmp_path / "folder").covered == 9
    with pytest.raises(UsageError, match="merge it into a folder"):
        compact(there, quiet_s=-60)


def test_an_object_that_somebody_replaced_is_fetched_again_and_named(
    bucket: Any, tmp_path: Path
) -> None:
    here = object_storage.located(URL)
    path = facts.write(here, "case-0", [make_row(run_id=RUN)])
    manifest.close([path])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    bucket.put_object(Bucket="facts", Key=f"buyer/{RUN}/case-0.parquet", Body=bytes(data))
    again = object_storage.located(URL)
    assert again == here and not check(again).ok


def test_a_killed_writer_leaves_whole_objects_or_none(bucket: Any, tmp_path: Path) -> None:
    code = (
        "import os, sys; sys.path[:0] = sys.argv[1:]\n"
        "from sample_rows import make_row\n"
        "from tpubench.results import object_storage, store as facts\n"
        f"here = object_storage.located({URL!r})\n"
        "for n in range(100):\n"
        f"    facts.write(here, f'case-{{n}}', [make_row(run_id={RUN!r}, repetition=n)])\n"
        "    print(n, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, *sys.path], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    done = [child.stdout.readline() for _ in range(5)]
    child.kill()
    child.wait()
    scanned = facts.scan(facts.files(object_storage.located(URL)))
    assert not scanned.unreadable and scanned.table.num_rows >= len(done) == 5


def test_a_run_and_its_page_from_a_bucket(
    bucket: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    call: Call = caller(monkeypatch, capfd)
    monkeypatch.chdir(tmp_path)
    run = ("run", "--workload", "gemm", "--preset", "square-512", "--backend", "fake")
    assert call(*run, "--repeats", "1", "--store", URL, "--json")[0] == 0
    assert any(key.endswith(".parquet") for key in keys(bucket))
    monkeypatch.setenv("TPUBENCH_STORE", URL)
    code, out, _ = call("runs", "list", "--json")
    assert code == 0 and len(json.loads(out)) == 1
    assert call("verify", "--strict")[0] == 0


@pytest.mark.parametrize("url", ["s3://none/x", "ftp://host/x", "s3://", "s3://facts/../x"])
def test_a_bucket_that_is_none_is_one_line(bucket: Any, url: str) -> None:
    with pytest.raises(UsageError) as error:
        facts.prepare(object_storage.located(url))
    assert "\n" not in str(error.value)


def test_a_service_that_refuses_is_one_line(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = object_storage.located(URL)

    def refuse(*arguments: object, **named: object) -> None:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": "later"}}, "PutObject")

    opened = object_storage._OPEN[here]
    monkeypatch.setattr(opened.fs, "pipe_file", refuse, raising=False)
    with pytest.raises(facts.NotStoredError, match="the service refused"):
        facts.write(here, "case-0", [make_row(run_id=RUN)])
    assert not facts.files(here)

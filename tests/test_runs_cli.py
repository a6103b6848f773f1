"""``tpubench runs`` and ``merge`` from the outside: JSON, plain text, asking, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Call, caller
from sample_rows import make_row

from tpubench.results import store as facts
from tpubench.results.sealing import manifest

RUN = "20260101T000000-aaaaaa"


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    monkeypatch.chdir(tmp_path)
    facts.write(tmp_path / "bench-results", "case-000", [make_row(run_id=RUN)])

    return caller(monkeypatch, capfd)


def test_a_run_is_tagged_noted_and_listed(call: Call) -> None:
    assert call("runs", "tag", "latest", "baseline", "old")[0] == 0
    assert call("runs", "tag", RUN, "--remove", "old")[1] == f"{RUN}: tags: baseline\n"
    assert call("runs", "note", RUN, "a [bold] word")[0] == 0
    (listed,) = json.loads(call("runs", "list", "--json")[1])
    assert (listed["run_id"], listed["tags"]) == (RUN, ["baseline"])
    assert [note["text"] for note in listed["notes"]] == ["a [bold] word"]
    text = call("runs", "list")[1]
    assert RUN in text and "baseline" in text and "a [bold] word" in text


def test_deleting_is_asked_for_and_undone(call: Call) -> None:
    code, out, err = call("runs", "delete", "latest")
    assert (code, out) == (2, "") and f"would delete {RUN}: say --yes" in err
    code, out, _ = call("runs", "delete", "latest", "--yes")
    assert code == 0 and f"runs restore {RUN}" in out
    assert json.loads(call("runs", "list", "--deleted", "--json")[1]) == [RUN]
    assert call("show")[0] == 2
    assert call("runs", "restore", RUN)[0] == 0
    assert call("show")[0] == 0


def test_a_merge_that_meets_a_contradiction_exits_1_and_names_it(
    call: Call, tmp_path: Path
) -> None:
    facts.write(tmp_path / "other", "case-000", [make_row(run_id=RUN, reason="another")])
    code, out, _ = call("merge", "other", "--into", "bench-results")
    assert code == 1 and out.startswith("conflict: ") and RUN in out
    code, out, _ = call("merge", "other", "--into", "new", "--json")
    assert code == 0 and json.loads(out)["rows"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs", "tag", "latest"),
        ("runs", "tag", "latest", "not a tag"),
        ("runs", "note", "latest", "\x1b[2J"),
        ("runs", "delete", "..", "--yes"),
        ("runs", "restore", RUN),
        ("runs", "list", "--store", "nowhere"),
        ("runs", "list", "--deleted", "latest"),
        ("merge", "bench-results", "--into", "bench-results"),
        ("merge", "nowhere", "--into", "new"),
        ("merge", "--into", "new"),
        ("seal", "--store", "nowhere"),
        ("seal", "--key", "nowhere"),
        ("verify", "--allowed-signers", "nowhere"),
    ],
)
def test_nonsense_is_one_line(call: Call, arguments: tuple[str, ...]) -> None:
    code, out, err = call(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("tpubench: error: ")


def test_a_store_is_sealed_and_tampering_named_with_its_rows(call: Call, tmp_path: Path) -> None:
    path = next((tmp_path / "bench-results").glob("*/*.parquet"))
    manifest.close([path])
    code, out, _ = call("seal", "--json")
    sealed = json.loads(out)
    assert code == 0 and sealed["runs"] == [RUN] and len(sealed["head"]) == 64
    assert call("verify", "--strict", "--head", sealed["head"])[0] == 0
    assert call("verify", "--head", "0" * 64)[0] == 1
    other = facts.write(tmp_path / "bench-results", "odd", [make_row(run_id="loose")])
    code, out, _ = call("verify")
    assert code == 0 and f"not covered: bench-results/loose/{other.name}" in out
    assert call("verify", "--strict")[0] == 1
    path.unlink()
    facts.write(tmp_path / "bench-results", "case-000", [make_row(samples=[1.0], run_id=RUN)])
    code, out, _ = call("verify")
    assert code == 1 and out.startswith(f"edited: {RUN}/case-000.parquet: value 1 was sealed as")
    (said,) = json.loads(call("verify", "--json")[1])["tampered"]
    assert said["kind"] == "edited" and said["rows"][0].startswith("output_tok_s of llama-infer")


def test_the_manifest_of_a_real_run_is_written_as_it_ends(call: Call, tmp_path: Path) -> None:
    store = str(tmp_path / "real")
    run = ("run", "--workload", "gemm", "--preset", "square-512", "--backend", "fake")
    assert call(*run, "--repeats", "2", "--store", store, "--json")[0] == 0
    assert call("seal", "--store", store)[0] == 0
    document = json.loads(call("verify", "--strict", "--store", store, "--json")[1])
    assert document["seals"]["chained"] == document["files"] >= 2
    assert document["seals"]["not_covered"] == document["tampered"] == []

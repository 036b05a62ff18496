"""`editr1 score FILE`: nothing that was computed is lost, and nothing is computed twice."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from editr1.cli import batch


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def statuses(path: Path) -> dict[str, str]:
    return {line["id"]: line["status"] for line in lines(path)}


def test_all_good(editr1_run: Callable[..., Any], edits: Callable[..., Path], tmp_path: Path) -> None:
    result = editr1_run("score", edits("score 2", "score 4"), "--out", "v.jsonl")
    assert result.code == 0
    assert "2 of 2 edits have a verdict, mean score 3.00; they are kept in v.jsonl" in result.err
    assert statuses(tmp_path / "v.jsonl") == {"e1": "ok", "e2": "ok"}


def test_input_may_be_named_by_an_option_and_printed(
    editr1_run: Callable[..., Any], edits: Callable[..., Path]
) -> None:
    result = editr1_run("score", "--input", edits("score 2", "refused by rule"))
    assert result.out.split() == ["2.0", "ok", "e1", "-", "refused", "e2"]
    assert result.code == 1


def test_json_lines_on_stdout(editr1_run: Callable[..., Any], edits: Callable[..., Path]) -> None:
    result = editr1_run("score", edits("score 2", "timeout"), "--json")
    assert [json.loads(line)["status"] for line in result.out.splitlines()] == ["ok", "timeout"]
    assert [json.loads(line)["id"] for line in result.out.splitlines()] == ["e1", "e2"]


def test_a_bad_row_is_told_and_the_rest_goes_on(
    editr1_run: Callable[..., Any], edits: Callable[..., Path], tmp_path: Path
) -> None:
    missing = {"id": "m", "source": "nowhere.png", "edited": "b.png", "instruction": "score 1"}
    path = edits("score 2", b"{broken", missing, "", "score 5")
    result = editr1_run("score", path, "--out", "v.jsonl")
    assert result.code == 1
    assert "warning: edits.jsonl:2: not JSON" in result.err
    assert "warning: edits.jsonl:3: error: " in result.err
    assert "nowhere.png" in result.err
    assert "warning: edits.jsonl:4: the instruction must say" in result.err
    assert "2 of 5 edits have a verdict, mean score 3.50, 1 failed, 2 rows could not be read" in result.err
    assert statuses(tmp_path / "v.jsonl") == {"e1": "ok", "m": "error", "e5": "ok"}


def test_nothing_could_be_computed(editr1_run: Callable[..., Any], edits: Callable[..., Path]) -> None:
    assert editr1_run("score", edits(b"{broken")).code == 2
    assert editr1_run("score", edits("refused", "unparseable")).code == 2
    result = editr1_run("score", edits())
    assert (result.code, result.err) == (2, f"error: {edits()} holds no edits\n")


def test_a_second_run_scores_only_what_is_missing(
    editr1_run: Callable[..., Any], edits: Callable[..., Path], built: list[Any], tmp_path: Path
) -> None:
    first = editr1_run("score", edits("score 1", "timeout", "score 3"), "--out", "v.jsonl")
    assert first.code == 1
    assert "run the same command again" in first.err
    second = editr1_run("score", edits("score 1", "score 2", "score 3", "score 6"), "--out", "v.jsonl")
    assert second.code == 0
    assert built[1].seen == ["score 2", "score 6"]
    assert "4 of 4 edits have a verdict (2 from before), mean score 3.00" in second.err
    assert [(line["id"], line["score"]) for line in lines(tmp_path / "v.jsonl")] == [
        ("e1", 1), ("e2", 2), ("e3", 3), ("e4", 6),
    ]  # fmt: skip
    third = editr1_run("score", edits("score 1", "score 2", "score 3", "score 6"), "--out", "v.jsonl")
    assert third.code == 0
    assert len(built) == 2  # no model is loaded for nothing


def test_a_judge_that_dies_in_mid_batch(
    editr1_run: Callable[..., Any], edits: Callable[..., Path], tmp_path: Path
) -> None:
    result = editr1_run("score", edits("score 1", "score 2", "dead", "score 4"), "--out", "v.jsonl")
    assert result.code == 1
    assert result.err.splitlines()[-1] == (
        "error: the judge stopped answering (cannot reach the server); 2 of 4 edits have a verdict, mean score 1.50; "
        "they are kept in v.jsonl: run the same command again to score only what is missing"
    )
    assert statuses(tmp_path / "v.jsonl") == {"e1": "ok", "e2": "ok"}


def test_a_judge_that_never_answers_is_an_error(editr1_run: Callable[..., Any], edits: Callable[..., Path]) -> None:
    result = editr1_run("score", edits("dead", "score 1"), "--quiet", "--out", "v.jsonl")
    assert (result.code, result.err) == (2, "error: cannot reach the server\n")


def test_a_judge_that_only_fails_ends_the_run_before_the_next_chunk(
    editr1_run: Callable[..., Any], edits: Callable[..., Path], built: list[Any]
) -> None:
    path = edits("score 1", *["error"] * 30)
    result = editr1_run("score", path, "--out", "v.jsonl", "--concurrency", "1")
    assert len(built[0].seen) == batch._CHUNK_PER_SLOT
    assert result.code == 1
    assert "error: the judge stopped answering (it was told to: ); 1 of 31 edits have a verdict" in result.err


def test_unreadable_pictures_are_not_the_judges_fault(
    editr1_run: Callable[..., Any], edits: Callable[..., Path], built: list[Any]
) -> None:
    broken = [{"source": "a.png", "edited": f"{n}.png", "instruction": "score 1"} for n in range(20)]
    result = editr1_run("score", edits(*broken, "score 7"), "--concurrency", "1")
    assert len(built[0].seen) == 21
    assert "stopped answering" not in result.err
    assert "1 of 21 edits have a verdict" in result.err


def test_an_interrupted_run_keeps_what_it_has(
    editr1_run: Callable[..., Any], edits: Callable[..., Path], tmp_path: Path
) -> None:
    result = editr1_run("score", edits("score 1", "stop", "score 3"), "--out", "v.jsonl")
    assert result.code == 1
    assert "interrupted: 1 of 3 edits have a verdict" in result.err
    assert statuses(tmp_path / "v.jsonl") == {"e1": "ok"}


def test_the_same_failure_is_told_once_and_not_too_many_different_ones(
    editr1_run: Callable[..., Any], edits: Callable[..., Path]
) -> None:
    result = editr1_run("score", edits(*["refused again"] * 50, "score 1"), "--out", "v.jsonl")
    assert result.err.count("refused") == 1
    assert "50 failed" in result.err
    result = editr1_run("score", edits(*[f"refused {n}" for n in range(50)], "score 1"), "--out", "w.jsonl")
    assert result.err.count("refused") == batch._TOLD_FAILURES
    assert "50 failed" in result.err


def test_limit(editr1_run: Callable[..., Any], edits: Callable[..., Path]) -> None:
    assert "2 of 2 edits" in editr1_run("score", edits("score 1", "score 2", "dead"), "--limit", "2").err


def test_a_file_that_holds_something_else_is_not_written_to(
    editr1_run: Callable[..., Any], edits: Callable[..., Path], built: list[Any]
) -> None:
    path = edits("score 1")
    before = path.read_bytes()
    assert "names the file of edits itself" in editr1_run("score", path, "--out", path).err
    other = edits("score 2", name="other.jsonl")
    result = editr1_run("score", path, "--out", other)
    assert (result.code, built) == (2, [])
    assert "other.jsonl:1 is no verdict" in result.err
    assert path.read_bytes() == before


def test_verdicts_of_another_judge_are_kept_but_told(
    editr1_run: Callable[..., Any], edits: Callable[..., Path], tmp_path: Path
) -> None:
    editr1_run("score", edits("score 1"), "--out", "v.jsonl")
    path = tmp_path / "v.jsonl"
    path.write_text(path.read_text().replace('"judge": "fake"', '"judge": "gpt"'))
    result = editr1_run("score", edits("score 1", "score 2"), "--out", "v.jsonl")
    assert "v.jsonl holds verdicts of gpt, which are kept; name another --out to have all from fake" in result.err


def test_finished_verdicts_of_other_settings_are_told_of_too(
    editr1_run: Callable[..., Any], edits: Callable[..., Path], built: list[Any]
) -> None:
    """No model is loaded to say so."""
    path = edits("score 1")
    at = ("score", path, "--out", "v.jsonl", "--base-url", "http://x/v1", "--model")
    editr1_run(*at, "fake")
    built.clear()
    assert "warning" not in editr1_run(*at, "fake").err
    other = editr1_run(*at, "some/other")
    assert "v.jsonl holds verdicts of fake, which are kept; name another --out to have all from some/other" in other.err
    more = editr1_run(*at, "fake", "--passes", "4")
    assert "v.jsonl holds verdicts of 1 passes, which are kept; name another --out to have all of 4" in more.err
    assert built == []


def test_parquet_and_its_report(editr1_run: Callable[..., Any], tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), "green").save(buffer, "PNG")
    picture = {"bytes": buffer.getvalue(), "path": None}
    rows = [{"id": "p1", "source": picture, "edited": picture, "instruction": "score 8"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "edits.parquet")
    assert editr1_run("score", "edits.parquet", "--out", "v.jsonl").code == 0
    result = editr1_run("report", "v.jsonl", "--input", "edits.parquet")
    assert (result.code, result.out) == (0, "v.html: 1 edits\n")
    with_pictures = (tmp_path / "v.html").read_text(encoding="utf-8")
    editr1_run("report", "v.jsonl", "--out", "without.html")
    without = (tmp_path / "without.html").read_text(encoding="utf-8")
    assert with_pictures.count("data:image") > without.count("data:image")


def test_report_of_a_run_directory(editr1_run: Callable[..., Any], edits: Callable[..., Path], tmp_path: Path) -> None:
    editr1_run("score", edits("score 1", "refused"), "--out", "run/verdicts.jsonl")
    assert editr1_run("report", "run").out == "run/report.html: 2 edits\n"
    assert "score 1" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    (tmp_path / "empty.jsonl").write_text("")
    assert "holds no verdicts yet" in editr1_run("report", "empty.jsonl").err

import json

import pytest
from report_samples import failure, picture, verdict

from editr1.errors import DataError
from editr1.reports import load_items, write_report
from editr1.types import EditVerdict, VerdictStatus


def line(name, found, **beside):
    values = {"source": "pictures/s.png", "edited": "pictures/e.png", "instruction": "Turn it red"}
    return json.dumps(found.to_dict() | {"id": name} | values | beside)


@pytest.fixture
def run(tmp_path):
    """A run directory; call it with lines to fill its verdicts."""
    folder = tmp_path / "run"
    (folder / "pictures").mkdir(parents=True)
    picture().save(folder / "pictures/s.png")
    picture("red").save(folder / "pictures/e.png")

    def fill(*lines):
        (folder / "verdicts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder

    return fill


def test_reads_a_run_directory_and_its_file_alike(run):
    truth = {"utility": 3.0, "checks": [True, False, True], "faults": ["blur"]}
    folder = run(line("a", verdict(), kind="color_alter", truth=truth, editor="x"), "", line("b", failure()))
    items = load_items(folder)
    assert items == load_items(str(folder / "verdicts.jsonl"))
    assert [i["id"] for i in items] == ["a", "b"]
    assert items[0]["source"] == folder / "pictures/s.png"
    assert (items[0]["kind"], items[0]["truth"], items[0]["editor"]) == ("color_alter", truth, "x")
    assert EditVerdict.from_dict(items[0]["verdict"]).score == 7.5
    assert items[1]["verdict"]["score"] is None


def test_what_was_loaded_makes_a_report_without_missing_pictures(run, tmp_path):
    folder = run(line("a", verdict()))
    text = write_report(load_items(folder), tmp_path / "r.html").read_text(encoding="utf-8")
    assert text.count("data:image/png") == 3
    assert "No picture" not in text


def test_a_missing_picture_does_not_stop_the_report(run, tmp_path):
    folder = run(line("a", verdict(), edited="pictures/gone.png"), line("b", verdict(), source=None))
    text = write_report(load_items(folder), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "gone.png" in text
    assert "no source picture is named" in text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"id": "x", "stat', "is not JSON"),
        ("[1, 2]", "is no object, but a list"),
        ('{"id": "x", "status": "ok"}', "is no verdict: a verdict has score and checks"),
        ('{"id": "x"}', "is no verdict: 'status' is missing"),
        ('{"status": "ok", "score": "high", "average_score": 1, "checks": []}', "is no verdict"),
        ('{"status": "ok", "score": 7, "average_score": 1, "checks": [3]}', "is no verdict"),
        ('{"status": "refused", "seconds": "long"}', "is no verdict"),
        ("[" * 100_000, "is not JSON"),
        ("9" * 5000, "is not JSON"),
    ],
)
def test_a_broken_line_is_a_failure_that_says_which(run, text, fault):
    items = load_items(run(line("a", verdict()), text, line("b", verdict())))
    assert [i["verdict"]["status"] for i in items] == ["ok", "error", "ok"]
    assert items[1]["verdict"]["error"].startswith("line 2 of verdicts.jsonl")
    assert fault in items[1]["verdict"]["error"]
    assert items[1]["verdict"]["score"] is None


def test_of_several_tries_the_last_that_is_ok_counts(run):
    timeout = failure(VerdictStatus.TIMEOUT)
    folder = run(
        line("a", timeout),
        line("b", timeout),
        line("c", verdict(1.0)),
        line("a", verdict(3.0)),
        line("b", failure()),
        line("c", verdict(2.0)),
        line("c", timeout),
    )
    found = [(i["id"], i["verdict"]["status"], i["verdict"]["score"]) for i in load_items(folder)]
    assert found == [("a", "ok", 3.0), ("b", "refused", None), ("c", "ok", 2.0)]


def test_reads_what_scoring_writes(tmp_path, run):
    from editr1.datasets import VerdictFile, edit_row

    folder = run()
    row = {"id": "a", "source": "s.png", "edited": "e.png", "instruction": "Turn it red", "kind": "color_alter"}
    with VerdictFile(tmp_path / "elsewhere" / "v.jsonl") as file:
        file.append(edit_row(row, where="row 1", folder=folder / "pictures"), verdict())
    (item,) = load_items(tmp_path / "elsewhere" / "v.jsonl")
    assert (item["id"], item["instruction"], item["kind"]) == ("a", "Turn it red", "color_alter")
    assert item["source"].samefile(folder / "pictures/s.png")


def test_lines_without_id_are_named_by_number(run):
    assert [i["id"] for i in load_items(run(line(None, verdict()), line(0, verdict())))] == ["line 1", "0"]


def test_no_verdicts_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"no verdicts at .*verdicts\.jsonl: name a JSONL file"):
        load_items(tmp_path)


def test_a_file_without_any_verdict_is_an_error(run):
    with pytest.raises(DataError, match="holds no verdicts .line 1 of verdicts.jsonl is no verdict.*score --out"):
        load_items(run('{"id": "a", "source": "a.png", "instruction": "Add a hat"}', "[1]"))

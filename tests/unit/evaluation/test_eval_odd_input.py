"""Options that do not go together and odd rows, pictures and answers, as `editr1 eval` tells of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from eval_helpers import RM, files

from editr1.cli.main import run
from editr1.evaluation.prompts import load_rating_prompt
from editr1.judges import ScriptedJudge


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--scorer", "pairwise", "--tie-margin", 3), "--tie-margin 3 is for scores"),
        (("--scorer", "pairwise", "--passes", 2), "--passes 2 is for scores"),
        (("--scorer", "holistic", "--one-order"), "are for --scorer pairwise, not for holistic"),
        (("--both-orders",), "are for --scorer pairwise, not for verifier"),
    ],
)
def test_options_without_effect_are_refused(editr1, pairs, arguments, why):
    outcome = editr1("eval", "rm", "preference", "--data", pairs(2), "--out", "run", *arguments)
    assert outcome.code == 2
    assert why in outcome.err
    assert (editr1.built, Path("run").exists()) == (0, False)


def test_imgedits_prompt_says_what_matters_for_the_kind_of_a_pair(editr1, kit, write_rows):
    row = {"source": kit.picture(0, 1), "preferred": kit.picture(4, 2), "other": kit.picture(2, 3), "instruction": "x"}
    data = write_rows([row | {"id": "p", "kind": "remove"}, row | {"id": "q"}], "pairs/data.jsonl")
    editr1.judge = ScriptedJudge(lambda r: kit.ratings(*[kit.worth(kit.shown(r)[-1])] * 3))
    arguments = ("eval", "rm", "preference", "--scorer", "imgedit", "--out", "run", "--data", data)
    assert editr1(*arguments).code == 0
    criteria = load_rating_prompt("imgedit").criteria
    asked = [kit.said(r) for r in editr1.judge.requests]
    assert [sum(criteria[kind] in text for text in asked) for kind in ("remove", "other")] == [2, 2]
    assert editr1(*arguments).code == 0
    assert len(editr1.judge.requests) == 4


def test_a_picture_that_cannot_be_read_is_not_asked_about_again(editr1, kit, write_rows, honest):
    torn = kit.picture(7, 2)[:200]
    row = {"id": "p", "source": kit.picture(0, 1), "preferred": torn, "other": kit.picture(2, 3), "instruction": "x"}
    data = write_rows([row, row | {"id": "q", "preferred": kit.picture(8, 4)}], "pairs/data.jsonl")
    editr1.judge = honest
    first = editr1(*RM, data)
    assert (first.code, editr1.built) == (1, 1)
    again = editr1(*RM, data, "--retry-failed")
    assert (again.code, editr1.built) == (1, 1)
    assert "0 new judgements" in again.err


def test_half_a_character_in_row_or_answer_ends_nothing(editr1, kit, write_rows):
    """JSON may hold one half of a surrogate pair, and no file can: it becomes a question mark."""
    row = {"id": "p", "source": kit.picture(0, 1), "preferred": kit.picture(7, 2), "other": kit.picture(2, 3)}
    data = write_rows([row | {"instruction": "make it \ud83d"}], "pairs/data.jsonl")
    editr1.judge = ScriptedJudge(lambda r: "I see \udc00. " + kit.ratings(kit.worth(kit.shown(r)[-1])))
    first = editr1(*RM, data)
    assert first.code == 0, first.err
    assert json.loads(Path("run/pairs.jsonl").read_text())["instruction"] == "make it ?"
    assert "I see ?." in Path("run/judgements.jsonl").read_text()
    before = files(Path("run"))
    assert editr1(*RM, data).code == 0
    assert files(Path("run")) == before
    assert len(editr1.judge.requests) == 2


@pytest.mark.parametrize(("path", "why"), [("a\0b.png", "embedded null"), ("A" * 5000, "5... characters: a path was")])
def test_odd_paths_of_pictures_are_a_short_line_each(editr1, kit, write_rows, honest, tmp_path, path, why):
    row = {"id": "p", "source": kit.picture(0, 1), "preferred": kit.picture(7, 2), "other": kit.picture(2, 3)}
    data = write_rows([row | {"instruction": "x"}], "pairs/data.jsonl")
    bad = json.loads(data.read_text()) | {"id": "q", "preferred": path}
    data.write_text(data.read_text() + json.dumps(bad) + "\n")
    editr1.judge = honest
    outcome = editr1(*RM, data)
    assert outcome.code == 1
    assert "1 of 2 rows are left out (1 picture)" in outcome.err
    assert re.search(why, outcome.err)
    assert len(outcome.err) < 1000


@pytest.mark.parametrize(
    ("arguments", "scorer"),
    [
        (("rm", "preference", "--scorer", "holistic"), "holistic"),
        (("rm", "preference", "--scorer", "pairwise", "--judge", "embedded"), "pairwise"),
        (("editor", "gedit", "--images", "."), "scpq"),
    ],
)
def test_the_embedded_verifier_is_not_asked_what_it_cannot_answer(monkeypatch, capsys, tmp_path, arguments, scorer):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(["eval", *arguments, "--data", "nowhere", "--out", "run"])
    assert caught.value.code == 2
    assert f"--scorer {scorer} cannot ask the embedded verifier" in capsys.readouterr().err
    assert not Path("run").exists()

"""`editr1 preferences`: marks in, Parquet out; simulated pairs that say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image
from typer.testing import CliRunner

from editr1.cli.preferences import app
from editr1.datasets.preferences import read_preferences
from editr1.errors import ConfigError
from editr1.stickers import People
from editr1.stickers.annotators import PEOPLE


def test_marks_are_imported_without_a_judge(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{name}.png")
    mark = {"source": "a.png", "instruction": "x", "first": "b.png", "second": "c.png", "mark": "first"}
    lines = [mark, mark | {"first": "c.png"}, mark | {"second": "lost.png"}]
    (tmp_path / "marks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--out", str(tmp_path / "out"), "--no-decompose", "--heldout", "0.01"]
    done = CliRunner().invoke(app, ["import", str(tmp_path / "marks.jsonl"), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "left out: 1 picture, 1 same file" in done.output
    files = [tmp_path / "out" / f"{name}.parquet" for name in ("train", "heldout")]
    assert sum(len(list(read_preferences(file))) for file in files) == 1


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="editreward-data, marks, preferences"):
        CliRunner().invoke(app, ["import", "x", "--out", str(tmp_path), "--format", "votes"], catch_exceptions=False)


def test_simulated_pairs_are_named_so_and_about_one_in_seven_is_the_same(tmp_path: Path) -> None:
    options = ["--out", str(tmp_path), "--train", "150", "--heldout", "5", "--split", "cli-test"]
    done = CliRunner().invoke(app, ["build", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    train, heldout = (list(read_preferences(tmp_path / f"{name}.parquet")) for name in ("train", "heldout"))
    assert (len(train), len(heldout)) == (150, 5)
    assert all(pair.annotator.startswith("simulated:") for pair in train + heldout)
    assert 0.07 <= sum(pair.same for pair in train) / len(train) <= 0.25
    assert not {pair.task.source for pair in train} & {pair.task.source for pair in heldout}
    assert all(pair.task.principles for pair in train)


@pytest.mark.parametrize("people", get_args(People))
def test_simulated_pairs_are_compared_by_the_people_that_are_asked_for(tmp_path: Path, people: People) -> None:
    options = ["--out", str(tmp_path), "--train", "12", "--heldout", "1", "--people", people]
    done = CliRunner().invoke(app, ["build", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = {pair.annotator for pair in read_preferences(tmp_path / "train.parquet")}
    assert found == {f"simulated:{human.name}" for human in PEOPLE[people]}
    assert people in json.loads((tmp_path / "manifest-train.json").read_text())["origin"]


def test_what_goes_with_an_editor_is_refused_without_one(tmp_path: Path) -> None:
    for option in (["--lora", "lora"], ["--steps", "3"], ["--drawn", "0.5"]):
        with pytest.raises(ConfigError, match="go with --editor"):
            CliRunner().invoke(app, ["build", "--out", str(tmp_path), *option], catch_exceptions=False)


def test_pictures_of_an_editor_are_compared_by_what_the_pixels_show(tmp_path: Path) -> None:
    options = ["--out", str(tmp_path), "--train", "5", "--heldout", "2", "--people", "exacting", "--split", "of-editor"]
    options += ["--editor", "sticker-kontext-small", "--steps", "1", "--drawn", "0.4"]
    done = CliRunner().invoke(app, ["build", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    train = list(read_preferences(tmp_path / "train.parquet"))
    assert [pair.task.id.split("/")[0] for pair in train] == ["of-editor"] * 3 + ["of-editor-drawn"] * 2
    assert all(pair.annotator.startswith("simulated:") and pair.preferred != pair.other for pair in train)
    assert "sticker-kontext-small, 40% drawn" in json.loads((tmp_path / "manifest-train.json").read_text())["origin"]

"""Recipes: what is accepted, what is refused, and whether the refusal helps."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from editr1.config import Recipe, ScoreConfig, dump, load
from editr1.config.load import parse_override
from editr1.errors import ConfigError

REPOSITORY = Path(__file__).parents[3]


class Optimizer(Recipe):
    name: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)


class Stage(Recipe):
    steps: int = 10


class Train(Recipe):
    output: Path = Path("runs/x")
    optimizer: Optimizer = Optimizer()
    stages: tuple[Stage, ...] = ()
    teacher: Optimizer | None = None
    resume: bool = False


def recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_without_a_file() -> None:
    assert load(Train) == Train()


def test_overrides_win_over_the_file_and_values_over_both(tmp_path: Path) -> None:
    path = recipe(tmp_path, "[optimizer]\nlr = 0.5\nbetas = [0.1, 0.2]\n[[stages]]\nsteps = 3\n")
    config = load(Train, path, ["optimizer.lr=2e-3", "resume=true", "output=runs/y"], values={"resume": False})
    assert config.optimizer == Optimizer(lr=2e-3, betas=(0.1, 0.2))
    assert config.stages == (Stage(steps=3),)
    assert config.output == Path("runs/y")
    assert config.resume is False


def test_an_override_makes_the_table_it_needs() -> None:
    assert load(Train, None, ["teacher.lr=1"]).teacher == Optimizer(lr=1.0)


@pytest.mark.parametrize(
    ("override", "suggested"),
    [
        ("optimizer.lrr=1", "optimizer.lr"),
        ("optimiser.lr=1", "optimizer"),
        ("lr=1", "optimizer.lr"),
        ("teacher.beta=1", "teacher.betas"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(override: str, suggested: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Train, None, [override])
    assert f"did you mean '{suggested}'?" in str(caught.value)
    assert f"override '{override}'" in str(caught.value)


def test_an_unknown_key_in_a_file_names_the_file_and_the_whole_path(tmp_path: Path) -> None:
    path = recipe(tmp_path, "[[stages]]\nsteps = 1\n[[stages]]\nstep = 2\n")
    with pytest.raises(ConfigError) as caught:
        load(Train, path)
    assert str(caught.value) == f"{path}: unknown key 'stages.1.step': did you mean 'stages.steps'?"


def test_a_suggestion_keeps_the_names_that_the_user_gave() -> None:
    class Judge(Recipe):
        model: str = "x"

    class Reward(Recipe):
        judge: Judge = Judge()
        weight: float = 1.0

    class Many(Recipe):
        rewards: dict[str, Reward] = Field(default={})

    for override, suggested in (
        ("rewards.mine.judge.modle=y", "rewards.mine.judge.model"),
        ("rewards.mine.model=y", "rewards.mine.judge.model"),
        ("rewards.mine.wieght=2", "rewards.mine.weight"),
        ("wieght=2", "rewards.NAME.weight"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(Many, None, [override])
        assert f"did you mean '{suggested}'?" in str(caught.value)


def test_a_key_like_no_other_lists_what_is_known() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'optimizer.zzz'; known are optimizer.name, optimizer.lr"):
        load(Train, None, ["optimizer.zzz=1"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.lr=fast", "'optimizer.lr' should be a valid number, got \"fast\""),
        ('optimizer.lr="5"', "'optimizer.lr' should be a valid number, got \"5\""),
        ("resume=True", "'resume' should be a valid boolean, got \"True\""),
        ("optimizer.name=sgd", "'optimizer.name' should be 'adamw' or 'muon', got \"sgd\""),
        ("stages=[{steps=1.5}]", "'stages.0.steps' should be a valid integer, got 1.5"),
        ("teacher=3", "'teacher'"),
    ],
)
def test_a_wrong_value_is_quoted_in_one_sentence(override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Train, None, [override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Train, None, ["optimizer.lrr=1", "resume=7"])
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_that_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the recipe .*nowhere.toml: No such file"):
        load(Train, tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match=r"recipe.toml is not TOML: .*line 2"):
        load(Train, recipe(tmp_path, "resume = true\n= 3\n"))


@pytest.mark.parametrize("text", ["resume", "=1", "a..b=1", ".a=1"])
def test_an_override_without_a_key_or_value(text: str) -> None:
    with pytest.raises(ConfigError, match="is not of the form"):
        load(Train, None, [text])


def test_an_override_below_a_single_value() -> None:
    with pytest.raises(ConfigError, match="'resume' is a single value and holds no 'now'"):
        load(Train, None, ["resume=true", "resume.now=1"])


@given(st.one_of(st.booleans(), st.integers(-(2**60), 2**60), st.text(), st.lists(st.integers(0, 9))))
def test_a_toml_right_side_keeps_its_value(value: object) -> None:
    # JSON strings are TOML strings, except that TOML wants DEL and surrogate pairs escaped another way.
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    assert parse_override(f"a.b={text}") == ("a.b", value)


def test_what_is_no_toml_is_a_string_and_can_set_no_other_key() -> None:
    assert parse_override("a=Qwen/Qwen2.5-VL-7B") == ("a", "Qwen/Qwen2.5-VL-7B")
    assert parse_override("a=") == ("a", "")
    assert parse_override("a=1\nb = 2") == ("a", "1\nb = 2")
    assert parse_override("a=x=y") == ("a", "x=y")
    assert math.isinf(parse_override("a=inf")[1])


def test_null_leaves_out_what_may_be_left_out(tmp_path: Path) -> None:
    """A whole table that the file has, too; what is required says so, and a string "null" is quoted."""
    path = recipe(tmp_path, "[teacher]\nlr = 0.5\n")
    assert load(Train, path).teacher == Optimizer(lr=0.5)
    assert load(Train, path, ["teacher=null"]).teacher is None
    with pytest.raises(ConfigError, match="resume"):
        load(Train, path, ["resume=null"])
    with pytest.raises(ConfigError, match="did you mean 'teacher'"):
        load(Train, path, ["techer=null"])
    assert parse_override('a="null"') == ("a", "null")


def test_dump_writes_every_default_and_reads_back(tmp_path: Path) -> None:
    config = load(Train, None, ["optimizer.lr=3"])
    data = json.loads(dump(config, tmp_path / "run").read_text())
    assert data["optimizer"] == {"name": "adamw", "lr": 3.0, "betas": [0.9, 0.999]}
    assert Train.model_validate(data) == config


@pytest.mark.parametrize("path", sorted((REPOSITORY / "recipes").rglob("score*.toml")), ids=lambda p: p.parent.name)
def test_shipped_scoring_recipes_load(path: Path) -> None:
    load(ScoreConfig, path)

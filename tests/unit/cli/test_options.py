"""The options that commands with a judge share."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import get_type_hints

import pytest

from editr1.cli import decompose, eval_editor, score
from editr1.cli import eval as evaluation
from editr1.cli.options import JudgeOptions, takes_judge
from editr1.errors import ConfigError

NAMES = [field.name for field in fields(JudgeOptions)]


def test_the_options_stand_where_the_keyword_stood():
    @takes_judge
    def command(first: int, *, given: JudgeOptions, last: str = "x") -> None:
        """What it does."""

    parameters = inspect.signature(command).parameters
    assert list(parameters) == ["first", *NAMES, "last"]
    assert parameters["last"].default == "x"
    assert parameters["judge"].annotation == get_type_hints(JudgeOptions, include_extras=True)["judge"]
    assert command.__doc__ == "What it does."


def test_the_command_receives_them_together():
    seen = []

    @takes_judge
    def command(first: int, *, given: JudgeOptions) -> None:
        seen.append((first, given))

    command(first=3, **{**dict.fromkeys(NAMES), "model": "m", "seed": 4})
    assert seen == [(3, JudgeOptions(model="m", seed=4))]


@pytest.mark.parametrize("command", [score.score, decompose.decompose, evaluation.rm, eval_editor.editor])
def test_no_command_words_an_option_of_its_own(command):
    parameters = inspect.signature(command).parameters
    shared = get_type_hints(JudgeOptions, include_extras=True)
    assert {name: parameters[name].annotation for name in NAMES} == shared


def test_what_is_not_said_leaves_the_recipe_alone(tmp_path):
    recipe = tmp_path / "score.toml"
    recipe.write_text('passes = 3\nseed = 1\n[judge]\nmodel = "a"\nconcurrency = 2\n')
    settings = JudgeOptions(config=recipe, model="b", overrides=["judge.timeout=7"], seed=9).resolve()
    assert (settings.judge.model, settings.judge.concurrency, settings.judge.timeout) == ("b", 2, 7)
    assert (settings.passes, settings.seed, settings.sampling.seed) == (3, 9, 9)
    assert JudgeOptions(config=recipe).resolve(passes=5).passes == 5
    with pytest.raises(ConfigError, match="judge"):
        JudgeOptions(judge="oracle of Delphi").resolve()

"""The ablation's cells on a tiny model: planned, trained, scored, and gone on with after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from editr1.cli.train import app
from editr1.config import load
from editr1.errors import ConfigError, ModelError
from editr1.evaluation.metrics import accuracy
from editr1.judges import names
from editr1.stickers.annotators import PEOPLE
from editr1.training import ablation
from editr1.training.ablation import AblationPairs, AblationRecipe, load_ablation_pairs, plan
from editr1.training.sft.recipe import SftRecipe


@pytest.fixture
def recipe_file(sft_recipe, tmp_path: Path) -> Path:
    """Two sizes that differ in their learning rate, two modes, six simulated pairs; one step each."""
    for size, rate in (("small", 1e-3), ("large", 2e-3)):
        settings = sft_recipe(learning_rate=rate).model_dump(mode="json", exclude_defaults=True)
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if not isinstance(value, dict)]
        (tmp_path / f"{size}.toml").write_text("\n".join([*lines, "[held_out]", "every = 0"]) + "\n")
    path = tmp_path / "ablation.toml"
    path.write_text(
        'name = "table"\nmodes = ["verify", "think+verify"]\nset = ["steps=1", "save_every=1"]\n'
        '[sizes]\nsmall = "small.toml"\nlarge = "large.toml"\n[pairs]\nnumber = 6\n'
    )
    return path


def run(recipe: Path, out: Path):
    return CliRunner().invoke(app, ["ablation", str(recipe), "--out", str(out)], catch_exceptions=False)


def test_cells_differ_in_recipe_and_mode_alone(recipe_file: Path) -> None:
    recipe = AblationRecipe(
        name="t", sizes={"small": "small.toml", "large": "large.toml"}, modes=("think", "viescore"), set=("steps=7",)
    )
    cells = plan(recipe, recipe_file.parent)
    assert [c.name for c in cells] == ["small-think", "small-viescore", "large-think", "large-viescore"]
    assert {(c.recipe.modes, c.recipe.steps) for c in cells} == {(("think",), 7), (("viescore",), 7)}
    assert [c.recipe.learning_rate for c in cells] == [1e-3, 1e-3, 2e-3, 2e-3]
    seeds = plan(recipe.model_copy(update={"seeds": (0, 3), "modes": ("think",)}), recipe_file.parent)
    assert [(c.name, c.recipe.seed) for c in seeds][2:] == [("small-think-3", 3), ("large-think-3", 3)]


def test_a_base_model_can_be_exchanged_size_by_size(recipe_file: Path) -> None:
    recipe = AblationRecipe(
        name="t",
        sizes={"small": "small.toml", "large": "large.toml"},
        modes=("think", "verify"),
        models={"large": "my/base"},
    )
    own = load(SftRecipe, recipe_file.parent / "small.toml").model
    assert [c.recipe.model for c in plan(recipe, recipe_file.parent)] == [own, own, "my/base", "my/base"]
    with pytest.raises(ConfigError, match="models names huge: the sizes are small, large"):
        plan(recipe.model_copy(update={"models": {"huge": "x"}}), recipe_file.parent)


def test_a_base_that_is_not_there_is_told_before_the_first_run(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MODELS_FOLDER", tmp_path)
    recipe = AblationRecipe(name="t", sizes={"small": "small.toml"}, models={"small": "sticker-base-small"})
    with pytest.raises(ModelError, match=r"make it with  editr1 stickers train recipes/sticker/base-small\.toml"):
        plan(recipe, recipe_file.parent)


def test_a_setting_that_the_recipes_do_not_have_is_an_error(recipe_file: Path) -> None:
    recipe = AblationRecipe(name="t", sizes={"small": "small.toml"}, set=("stepps=7",))
    with pytest.raises(ConfigError, match="stepps"):
        plan(recipe, recipe_file.parent)


def test_simulated_pairs_are_those_with_a_preference(tmp_path: Path) -> None:
    pairs = load_ablation_pairs(AblationPairs(number=12), tmp_path)
    assert 6 <= len(pairs) < 12  # about 15 % are "same"
    assert not any(p.same for p in pairs)
    again = load_ablation_pairs(AblationPairs(number=12), tmp_path)
    assert [p.task.id for p in again] == [p.task.id for p in pairs]


def test_other_people_compare_other_pairs(tmp_path: Path) -> None:
    """Pairs of one group, drawn into the same run, are not taken for those of the other."""
    for people, humans in PEOPLE.items():
        pairs = load_ablation_pairs(AblationPairs(number=12, people=people), tmp_path)
        assert {p.annotator for p in pairs} <= {f"simulated:{human.name}" for human in humans}


class Rater:
    """In the place of a cell's model: small ones prefer the right edit two times of three, large ones always."""

    asked: list[str] = []  # noqa: RUF012 - shared on purpose

    def __init__(self, model: Path, mode: str) -> None:
        self.large = "large" in str(model)

    def scores(self, items):
        self.asked += [pair.task.id for pair, _ in items]
        return [self._score(i // 2, i % 2 == 0) for i in range(len(items))]

    def _score(self, pair: int, preferred: bool) -> float | None:
        if self.large:
            return 9.0 if preferred else 1.0
        return {0: 8.0, 1: 5.0, 2: 2.0}[pair % 3] if preferred else 5.0


def test_the_table_says_what_the_scores_make(recipe_file: Path, tmp_path: Path, monkeypatch) -> None:
    """Of five or six pairs, small models win, tie and lose in turn; large ones win all. A second run asks nothing.

    With n pairs a small model wins ceil(n / 3) of them, so strict accuracy is ceil(n / 3) / n.
    """
    Rater.asked = []
    monkeypatch.setattr(ablation, "_Judge", Rater)
    result = run(recipe_file, tmp_path / "run")
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "run/ablation.json").read_text())
    number = table["pairs"]
    strict = {(r["size"], r["mode"]): r["figures"]["strict"]["value"] for r in table["rows"]}
    assert strict["large", "verify"] == strict["large", "think+verify"] == 1.0
    assert strict["small", "verify"] == pytest.approx(-(-number // 3) / number)
    difference = next(d for d in table["differences"] if d["of"] == "large-verify" and d["less"] == "small-verify")
    assert difference["strict"]["value"] == pytest.approx(1 - strict["small", "verify"])
    same = next(d for d in table["differences"] if (d["of"], d["less"]) == ("small-think+verify", "small-verify"))
    assert same["strict"]["value"] == 0
    low = 100 * 0.025 ** (1 / number)  # the exact limit of n right out of n
    assert f"| large | T+V | 100.0 [{low:.1f}, 100.0] |" in (tmp_path / "run/ablation.md").read_text()
    asked, page = len(Rater.asked), (tmp_path / "run/ablation.md").read_bytes()
    assert asked == 4 * 2 * number
    assert run(recipe_file, tmp_path / "run").exit_code == 0
    assert len(Rater.asked) == asked
    assert (tmp_path / "run/ablation.md").read_bytes() == page


def test_killed_while_scoring_it_goes_on_with_the_next_part(recipe_file: Path, tmp_path: Path, monkeypatch) -> None:
    Rater.asked = []
    monkeypatch.setattr(ablation, "_Judge", Rater)
    monkeypatch.setattr(ablation, "PART", 2)
    write = ablation.write_json
    written = []

    def dying(path, value):
        write(path, value)
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(ablation, "write_json", dying)
    assert run(recipe_file, tmp_path / "run").exit_code != 0
    assert len(Rater.asked) == 8  # two parts of two pairs
    monkeypatch.setattr(ablation, "write_json", write)
    assert run(recipe_file, tmp_path / "run").exit_code == 0
    number = json.loads((tmp_path / "run/ablation.json").read_text())["pairs"]
    assert len(Rater.asked) == 4 * 2 * number  # nothing was asked twice


def test_scores_on_other_pairs_are_not_taken_for_these(recipe_file: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ablation, "_Judge", Rater)
    run(recipe_file, tmp_path / "run")
    path = tmp_path / "run/small-verify/scores.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"key": found["key"] | {"pairs": "another"}}))
    with pytest.raises(ConfigError, match="other pairs"):
        run(recipe_file, tmp_path / "run")


def test_a_tiny_model_fails_to_answer_and_that_is_no_score(recipe_file: Path, tmp_path: Path) -> None:
    """Random weights write no verdict: every pair is a failure, no accuracy is made of it, and the table says so."""
    result = run(recipe_file, tmp_path / "run")
    assert result.exit_code == 0
    table = json.loads((tmp_path / "run/ablation.json").read_text())
    assert [r["failed"] for r in table["rows"]] == [table["pairs"]] * 4
    assert table["rows"][0]["figures"]["strict"] is None
    assert table["differences"] == []
    assert accuracy([]) is None

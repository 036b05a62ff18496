"""Names of shipped models: found, or said how to make them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from editr1.editors import names as editors
from editr1.errors import ModelError
from editr1.judges import names
from editr1.judges.names import SHIPPED, check_place

TABLES = [(names.SHIPPED, names._COMMANDS), (editors.SHIPPED_EDITORS, editors._COMMANDS)]


@pytest.mark.parametrize(("shipped", "commands"), TABLES, ids=["judges", "editors"])
def test_what_ships_can_be_made_with_a_recipe_that_is_there(
    shipped: dict[str, str], commands: dict[str, str], repository: Path
) -> None:
    assert set(shipped.values()) == set(commands)
    for command in commands.values():
        recipe = next(word for word in command.split() if word.endswith(".toml"))
        assert (repository / recipe).is_file()


def test_a_missing_model_says_how_to_make_it_and_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "MODELS_FOLDER", tmp_path)
    with pytest.raises(ModelError, match=r"train recipes/sticker/base-large\.toml --ship  or .* none is there"):
        names.resolve_model("sticker-base-large")
    (tmp_path / "sticker-base-small").mkdir()
    (tmp_path / "sticker-base-small/config.json").write_text("{}")
    with pytest.raises(
        ModelError, match=r"train gcpo recipes/sticker/gcpo\.toml --ship  or .*, sticker-base-small is there"
    ):
        names.resolve_model("embedded")
    assert names.resolve_model("sticker-base-small") == str(tmp_path / "sticker-base-small")


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-VL-7B-Instruct", "./embedded", Path("embedded")])
def test_paths_and_hub_ids_stay_as_they_are(name: str | Path) -> None:
    assert names.resolve_model(name) == str(name)


def test_an_adapter_stands_for_its_base_and_itself(tmp_path: Path) -> None:
    """By the base's shipped name, by a path from the adapter's folder, and by any other name as it is."""
    adapter = tmp_path / "adapter"
    (adapter / "base").mkdir(parents=True)
    config = adapter / "adapter_config.json"
    for base, found in (
        ("sticker-verifier-small", str(names.MODELS_FOLDER / "sticker-verifier-small")),
        ("base", str(adapter / "base")),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"),
    ):
        config.write_text(json.dumps({"base_model_name_or_path": base}))
        assert names.split_adapter(str(adapter)) == (found, str(adapter))
    (adapter / "config.json").write_text("{}")
    assert names.split_adapter(str(adapter)) == (str(adapter), None)
    assert names.split_adapter("Qwen/Qwen2.5-VL-7B-Instruct") == ("Qwen/Qwen2.5-VL-7B-Instruct", None)


@pytest.mark.parametrize(
    ("text", "why"), [("{}", "does not say which model"), ("[", "cannot be read"), ("[]", "cannot")]
)
def test_an_adapter_without_a_base_is_an_error(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError, match=why):
        names.split_adapter(str(tmp_path))


def test_a_path_without_a_model_is_told_of_before_the_hub_is_asked(tmp_path, monkeypatch):
    """A path such as runs/gpco looks like a hub id, which the hub's client would look for, for minutes without one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "gcpo" / "model").mkdir(parents=True)
    (tmp_path / "runs" / "gcpo" / "model" / "config.json").write_text("{}")
    check_place("runs/gcpo/model", ("config.json",), "model")
    with pytest.raises(ModelError, match=r"no model 'runs/gpco': did you mean 'runs/gcpo'\?"):
        check_place("runs/gpco", ("config.json",), "model")
    with pytest.raises(ModelError, match=r"did you mean runs/gcpo/model\?"):
        check_place("runs/gcpo", ("config.json",), "model")
    with pytest.raises(ModelError, match=r"did you mean 'sticker-gcpo-large'.*ships: .*embedded"):
        check_place("sticker-gcpo-larg", ("config.json",), "model", SHIPPED)
    check_place("Qwen/Qwen2.5-VL-7B-Instruct", ("config.json",), "model", SHIPPED)

"""Where the reproduction finds and leaves things."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from editr1.editors.names import LORA_FILE
from editr1.errors import ConfigError, DataError, Editr1Error
from editr1.files import relative_reference
from editr1.judges.files import folder_digest
from editr1.judges.names import MODELS_FOLDER, SHIPPED

SIZES = {"small": "Qwen2.5-VL-3B", "large": "Qwen2.5-VL-7B"}
"""Sizes of the embedded verifiers, and which of the paper's they stand for."""

SHIPPED_MODELS = {
    "base/small": "sticker-base-small",
    "base/large": "sticker-base-large",
    "sft/small": "sticker-verifier-small",
    "sft/large": "sticker-verifier-large",
    "gcpo/small": "sticker-gcpo-small",
    "gcpo/large": "sticker-gcpo-large",
    "holistic/small": "sticker-viescore-small",
    "holistic/large": "sticker-viescore-large",
    "editor/base": "sticker-kontext-small",
    "editor/qwen-base": "sticker-qwen-small",
    "editor/sft-small": "sticker-kontext-small-rl-sft-small",
    "editor/gcpo-small": "sticker-kontext-small-rl-gcpo-small",
    "editor/sft-large": "sticker-kontext-small-rl-sft-large",
    "editor/gcpo-large": "sticker-kontext-small-rl-gcpo-large",
    "editor/oracle": "sticker-kontext-small-rl-oracle",
    "editor/qwen-gcpo-large": "sticker-qwen-small-rl-gcpo-large",
}
"""Step -> the folder of its model in the package, whether one ships yet or not."""


_MODEL_FILES = ("config.json", "model_index.json", "adapter_config.json", LORA_FILE)
_MODELS_OF_RUNS = ("model", "pipeline", "lora")  # folders that trainers leave in a run directory


class MissingInput(Editr1Error, LookupError):
    """Something a step needs is not there; the step is then said to be missing, and never made up."""


@dataclass(frozen=True, slots=True)
class ReproductionSettings:
    """What a reproduction is started with.

    Attributes:
        from_checkpoints: train nothing: take the models and results that ship.
        recipes: folder of the recipes of the embedded domain.
        pairs: that each verifier's accuracy is measured on; half as many in the benchmark, which more judges take.
        tasks: that each editor is measured on.
        seed: of bootstraps and of the simulated study.
        use: step -> run directory (or folder of a model) to take in the place of the one that the step would make.
    """

    from_checkpoints: bool = False
    recipes: Path = Path("recipes/sticker")
    pairs: int = 1000
    tasks: int = 330
    seed: int = 0
    use: Mapping[str, Path] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "from_checkpoints": self.from_checkpoints,
            "recipes": self.recipes.as_posix(),
            "pairs": self.pairs,
            "tasks": self.tasks,
            "seed": self.seed,
            "use": {name: path.as_posix() for name, path in sorted(self.use.items())},
        }


@dataclass(frozen=True, slots=True)
class Place:
    """The reproduction's folder, and its way to models and recipes.

    Attributes:
        out: the folder.
        settings: what was asked for.
        shipped: folder of results that ship, one file a step.
        models: folder of models that ship.
    """

    out: Path
    settings: ReproductionSettings
    shipped: Path = field(default_factory=lambda: shipped_results())
    models: Path = MODELS_FOLDER

    def folder(self, step: str) -> Path:
        """Of what a step's command writes."""
        given = self.settings.use.get(step)
        return self.out / file_name(step) if given is None else given

    def recipe(self, name: str) -> Path:
        """A recipe.

        Raises:
            MissingInput: if there is none.
        """
        path = self.settings.recipes / name
        if not path.is_file():
            raise MissingInput(f"there is no recipe {path}: name the folder of recipes with --recipes")
        return path

    def recipe_value(self, name: str, *keys: str) -> Any:
        """What a recipe says under nested keys; None if it says nothing.

        Raises:
            MissingInput, ConfigError: if there is no such recipe, or it is not TOML.
        """
        path = self.recipe(name)
        try:
            value: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as exc:
            raise ConfigError(f"{path} is not TOML: {exc}") from exc
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def model(self, step: str) -> str:
        """The model that a step makes, or ships, as commands take it: a name or a folder.

        Whether it is there yet is not checked where it is to be made.

        Raises:
            MissingInput: if it can only ship, and does not.
        """
        folder = self.model_folder(step)
        if self.settings.from_checkpoints and step not in self.settings.use:
            name = SHIPPED_MODELS[step]
            if not folder.is_dir():
                raise MissingInput(f"no model {name} ships with this version")
            return name if name in SHIPPED else relative_reference(folder, Path.cwd())
        return folder.as_posix()

    def model_folder(self, step: str) -> Path:
        """The folder of a step's model on disk, there or not."""
        given = self.settings.use.get(step)
        if given is not None:
            return _model_in(given) or given
        if self.settings.from_checkpoints:
            return self.models / SHIPPED_MODELS[step]
        kind, _, name = step.partition("/")
        mode = {"sft": "think+verify", "holistic": "viescore"}.get(kind)
        if mode is not None:  # cells of the ablation
            return self.folder("ablation") / f"{name}-{mode}" / "model"
        run = self.folder(step)
        return _model_in(run) or run / ("lora" if kind == "editor" and not name.endswith("base") else "model")

    def is_lora(self, step: str) -> bool:
        """Whether a step's model is a LoRA on another; one that is yet to be made is told by its place."""
        folder = self.model_folder(step)
        return (folder / LORA_FILE).is_file() or (not folder.is_dir() and folder.name == "lora")

    def digest(self, step: str) -> str:
        """A hash of the files of a step's model, those of its parts included.

        Raises:
            MissingInput: if it is not there.
        """
        folder = self.model_folder(step)
        if not any((folder / name).is_file() for name in _MODEL_FILES):
            raise MissingInput(f"there is no model in {folder}")
        return "-".join(folder_digest(part) for part in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())))

    def state_file(self, step: str) -> Path:
        """The file that a step leaves, with its result and manifest."""
        return self.out / "steps" / f"{file_name(step)}.json"

    def shipped_file(self, step: str) -> Path:
        """The same of a step whose result ships."""
        return self.shipped / f"{file_name(step)}.json"

    def log_file(self, step: str) -> Path:
        """What a step's command said."""
        return self.out / "logs" / f"{file_name(step)}.log"


def _model_in(run: Path) -> Path | None:
    """The model that a trainer left in a run directory."""
    return next((run / name for name in _MODELS_OF_RUNS if (run / name).is_dir()), None)


def file_name(step: str) -> str:
    """A step's name as that of a file."""
    return step.replace("/", "--")


def shipped_results() -> Path:
    """The folder in the package of results that ship."""
    return Path(str(files("editr1.evaluation.reproduction").joinpath("shipped")))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        MissingInput: if there is no such file.
        DataError: if it holds something else.
    """
    if not path.is_file():
        raise MissingInput(f"there is no {path}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise DataError(f"{path} is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise DataError(f"{path} must hold an object, got {type(data).__name__}")
    return data

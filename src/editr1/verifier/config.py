"""`verifier_config.json`: how a verifier's weights want to be asked, kept beside them."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from editr1.errors import ConfigError
from editr1.judges.names import MODEL_FILES, SHIPPED, check_place
from editr1.verifier.template import PromptTemplate, load_template, names

CONFIG_NAME = "verifier_config.json"
_TEMPLATE_NAME = "verifier_template.toml"


class VerifierConfig(BaseModel):
    """Settings that belong to a verifier's weights; unknown keys are errors.

    Attributes:
        template: name of a shipped template, or of a TOML file in the same folder.
        max_tokens: limit on an answer.
        temperature: of a single pass.
        passes_temperature: when several passes are asked for and `temperature` is 0.
        notice: one line that users should see, e.g. what the model does not know.
        notice_unless: (width, height) of pictures that need no notice, because the model knows them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str = "default"
    max_tokens: int = Field(default=2048, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    passes_temperature: float = Field(default=0.7, gt=0, le=2)
    notice: str | None = None
    notice_unless: tuple[int, int] | None = None

    @classmethod
    def read(cls, path: Path) -> VerifierConfig:
        """Read a file.

        Raises:
            ConfigError: if it cannot be read or understood.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as exc:
            raise ConfigError(f"cannot read {path}: {exc.strerror}") from None
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "content"
            raise ConfigError(f"{path}: {where}: {first['msg']}; known are {', '.join(cls.model_fields)}") from None

    def load_template(self, folder: Path | None) -> PromptTemplate:
        """The template; one that ends in .toml is looked for in the folder."""
        if folder is not None and self.template.endswith(".toml"):
            return load_template(folder / self.template)
        return load_template(self.template)

    def write(self, folder: Path, template: PromptTemplate) -> Path:
        """Write the file, and the template beside it unless it ships with editr1; returns the file's path."""
        folder.mkdir(parents=True, exist_ok=True)
        name = template.name
        if name not in names() or load_template(name) != template:
            name = _TEMPLATE_NAME
            (folder / name).write_text(_as_toml(template), encoding="utf-8")
        config = self.model_copy(update={"template": name})
        path = folder / CONFIG_NAME
        path.write_text(config.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
        return path


def find_config(model: str, revision: str | None = None) -> Path | None:
    """The config of a model in a folder or on the hub; None where there is none, or the hub cannot be reached.

    Raises:
        ModelError: if it is a path at which there is no model.
    """
    if Path(model).is_dir():
        path = Path(model) / CONFIG_NAME
        return path if path.is_file() else None
    check_place(model, MODEL_FILES, "model", SHIPPED)
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(
            model,
            CONFIG_NAME,
            revision=revision,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError):  # no such model: loading its weights says so better
        return None
    return Path(found) if found else None


def _as_toml(template: PromptTemplate) -> str:
    """JSON texts, numbers and booleans are TOML's too, except for one control character."""
    values = {f.name: json.dumps(getattr(template, f.name), ensure_ascii=False) for f in fields(template)}
    return "".join(f"{name} = {value}\n" for name, value in values.items()).replace("\x7f", "\\u007f")

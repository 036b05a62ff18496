"""What runs were made with, field by field: two results compare only where their manifests agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MUST_BE_RECORDED = (
    "judge.judge",
    "judge.fingerprint",
    "judge.prompt_hash",
    "judge.sampling.temperature",
    "image_sizes.most_common",
    "data.hash",
    "read_from.revision",
    "seed",
    "code",
)
"""Fields without which nobody can say whether two results compare."""

COMPARED = {
    "judges": ("judge.judge", "judge.versions", "judge.fingerprint"),
    "editors": ("editor", "generation.editor", "generation.lora", "generation.weights"),
}
"""Fields that are expected to differ: what is being compared."""

NOT_COMPARED = ("protocol", "licence", "read_from.name", "read_from.rows", "read_from.left_out")
"""Fields that say how a run came by what other fields identify."""

NOT_RECORDED = "not recorded"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the manifests.

    Attributes:
        name: with dots between levels, e.g. "judge.sampling.temperature".
        values: of each run, as text.
        agrees: whether all are the same.
        compared: whether it is what is being compared, and may differ.
    """

    name: str
    values: tuple[str, ...]
    agrees: bool
    compared: bool


def compare_manifests(
    manifests: Sequence[Mapping[str, Any]], letters: Sequence[str], kind: str
) -> tuple[tuple[Field, ...], list[str]]:
    """All fields of the manifests, and a sentence for each that ought to agree and does not.

    Args:
        manifests: of the runs.
        letters: the runs' short names.
        kind: "judges" or "editors": decides which fields may differ.
    """
    flat = [dict(_flatten(manifest)) for manifest in manifests]
    names = dict.fromkeys(name for fields in flat for name in fields)
    fields, warnings = [], []
    for name in names:
        values = tuple(of.get(name, NOT_RECORDED) for of in flat)
        field = Field(name, values, len(set(values)) == 1, name in COMPARED[kind])
        fields.append(field)
        if not field.agrees and not field.compared:
            warnings.append(f"{name} differs: {_told(values, letters)}")
    for name in MUST_BE_RECORDED:
        if name not in names:
            warnings.append(f"{name} is recorded by none of the runs: whether it agrees cannot be known")
    return tuple(fields), warnings


def _told(values: Sequence[str], letters: Sequence[str]) -> str:
    """Each value with the runs that have it, e.g. "0 in A and C, 5 in B"."""
    runs: dict[str, list[str]] = {}
    for value, letter in zip(values, letters, strict=True):
        runs.setdefault(value, []).append(letter)
    return ", ".join(f"{value} in {' and '.join(of)}" for value, of in runs.items())


def _flatten(data: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        name = f"{before}{key}"
        if name in NOT_COMPARED:
            continue
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{name}.")
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    """A value for people. Lists that are pairs of numbers are sizes; a revision is a commit that may have changes."""
    if value is None or value in ([], {}, ""):
        return "none"
    if isinstance(value, Mapping) and "commit" in value:
        return f"{str(value['commit'])[:10]}{' with changes' if value.get('changed') else ''}"
    if isinstance(value, list):
        sizes = len(value) == 2 and all(isinstance(v, int) for v in value)
        return (" x " if sizes else ", ").join(_text(v) for v in value)
    return str(value)

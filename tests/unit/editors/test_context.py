"""Contexts side by side, and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from editr1.editors import Context, ContextCache, Geometry, PipelineEditor, collate
from editr1.errors import ConfigError
from editr1.types import EditTask

Make = Callable[..., PipelineEditor]
MakeTask = Callable[..., EditTask]

GEOMETRY = Geometry(32, 32, (4, 4), ((4, 4),), 16)


def context(length: int, value: float = 1.0) -> Context:
    return Context("a", GEOMETRY, {"prompt": torch.full((length, 2), value), "pooled": torch.full((3,), value)})


def test_texts_are_padded_and_masked() -> None:
    batch = collate([context(1, 1.0), context(3, 2.0)], "cpu")
    assert batch.size == 2
    assert batch.tensors["prompt"][0].tolist() == [[1, 1], [0, 0], [0, 0]]
    assert batch.tensors["prompt_mask"].tolist() == [[True, False, False], [True, True, True]]
    assert batch.tensors["pooled"].tolist() == [[1, 1, 1], [2, 2, 2]]
    assert "pooled_mask" not in batch.tensors


def test_texts_of_one_length_need_no_mask() -> None:
    assert set(collate([context(2), context(2)], "cpu").tensors) == {"prompt", "pooled"}


def test_a_group_holds_its_context_once() -> None:
    one = context(2)
    prompt = collate([one] * 24, "cpu").tensors["prompt"]
    assert prompt.shape == (24, 2, 2)
    assert prompt.data_ptr() == one.tensors["prompt"].data_ptr()


def test_only_one_geometry_in_a_batch() -> None:
    other = replace(context(1), geometry=replace(GEOMETRY, width=64, grid=(4, 8)))
    with pytest.raises(ValueError, match=r"32x32 and 64x32.*group them"):
        collate([context(1), other], "cpu")
    with pytest.raises(ValueError, match="at least one"):
        collate([], "cpu")


class Counting:
    """An editor that encodes into something small, and counts."""

    name = "counting"
    fingerprint = "weights-1"

    def __init__(self, editor: PipelineEditor) -> None:
        self.options = editor.options
        self.seen: list[str] = []

    def encode(self, tasks: list[EditTask]) -> list[Context]:
        self.seen += [task.id for task in tasks]
        return [replace(context(2), id=task.id) for task in tasks]


@pytest.fixture
def encoder(make_editor: Make) -> Counting:
    return Counting(make_editor("kontext"))


def test_each_context_is_encoded_once(encoder: Counting, make_task: MakeTask) -> None:
    cache = ContextCache(encoder)
    first, again, renamed = cache.get([make_task(), make_task(), replace(make_task(), id="other")])
    assert cache.encoded == 1
    assert again is first
    assert (renamed.id, renamed.tensors) == ("other", first.tensors)


def test_contexts_are_told_apart_by_picture_and_instruction(encoder: Counting, make_task: MakeTask) -> None:
    """Not by the instruction alone, and not by ids, which two data sets may share."""
    same_id = replace(make_task("add a bird"), id=make_task().id)
    cache = ContextCache(encoder)
    cache.get([make_task(), make_task(seed=1), same_id, make_task(size=(64, 32))])
    assert cache.encoded == 4


def test_contexts_on_disk(make_editor: Make, make_task: MakeTask, tmp_path: Path) -> None:
    """They come back as they were, masks and precision included, and another editor's are not taken."""
    editor = make_editor("qwen")
    editor.fingerprint = "weights-1"
    (made,) = ContextCache(editor, tmp_path).get([make_task()])
    cache = ContextCache(editor, tmp_path)
    (read,) = cache.get([make_task()])
    assert cache.encoded == 0
    assert (read.id, read.geometry) == (made.id, made.geometry)
    assert read.tensors.keys() == made.tensors.keys()
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in made.tensors.items())

    for other in (make_editor("qwen"), make_editor("qwen", negative_prompt="blurry")):
        other.fingerprint = "weights-2" if other.options == editor.options else "weights-1"
        cache = ContextCache(other, tmp_path)
        cache.get([make_task()])
        assert cache.encoded == 1


def test_a_damaged_file_is_written_anew(encoder: Counting, make_task: MakeTask, tmp_path: Path) -> None:
    ContextCache(encoder, tmp_path).get([make_task()])
    (path,) = tmp_path.rglob("*.safetensors")
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        for encoded in (1, 0):
            cache = ContextCache(encoder, tmp_path)
            (read,) = cache.get([make_task()])
            assert cache.encoded == encoded
            assert torch.equal(read.tensors["prompt"], context(2).tensors["prompt"])


def test_memory_is_bounded(encoder: Counting, make_task: MakeTask) -> None:
    """A context has 4 + 3 numbers of 4 bytes; two fit into 60, and the one used longest ago goes."""
    cache = ContextCache(encoder, most_bytes=60)
    tasks = [make_task(seed=seed) for seed in range(3)]
    cache.get([tasks[0], tasks[1], tasks[0], tasks[2]])
    assert cache.encoded == 3
    cache.get([tasks[0], tasks[2]])
    assert cache.encoded == 3
    cache.get([tasks[1]])
    assert cache.encoded == 4


def test_no_folder_without_a_fingerprint(encoder: Counting, tmp_path: Path) -> None:
    encoder.fingerprint = ""
    with pytest.raises(ConfigError, match="no fingerprint"):
        ContextCache(encoder, tmp_path)

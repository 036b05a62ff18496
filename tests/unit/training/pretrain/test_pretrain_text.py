"""The text encoders' own stage: what is asked of them, and that they learn to answer."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pretrain_helpers import tiny_trainee
from safetensors.torch import load_file, save_file

from editr1.errors import ConfigError, ModelError
from editr1.rundir import RunDir
from editr1.stickers.steps import Add
from editr1.stickers.tasks import sample_task
from editr1.training.pretrain import text
from editr1.training.pretrain.data import EditMixture, TaskChunks
from editr1.training.pretrain.latents import LatentStore, encode_chunk
from editr1.training.pretrain.models import Trainee
from editr1.training.pretrain.recipe import EditorRecipe
from editr1.training.pretrain.text import FILE, Questions, answer_loss, attributes, train_text


@pytest.mark.parametrize(
    ("index", "instruction", "expected"),
    [
        (0, "Replace the backdrop with sea.", {"ChangeBackdrop", "ChangeBackdrop.kind=sea"}),
        (
            1,
            "Please paint the bell red, then make the picture cooler.",
            {"Repaint", "Repaint.kind=bell", "Repaint.finish=red", "SetTone", "SetTone.tone=cooler"},
        ),
        (4, "Let the face smile", {"Portrait", "Portrait.expression=smiling", "Portrait.glasses=None"}),
    ],
)
def test_attributes_are_what_the_instruction_says(index: int, instruction: str, expected: set[str]) -> None:
    """And not the seed by which the new backdrop is drawn, which no one could tell."""
    task = sample_task("t", index)
    assert task.instruction == instruction
    assert attributes(task) == expected


def test_a_new_sticker_is_told_by_its_kind_and_place() -> None:
    """Of all first steps that add a sticker, the first: neither its size nor its offset in the cell is asked for."""
    task, step = next((t, s) for t in (sample_task("t", i) for i in range(200)) if isinstance(s := t.steps[0], Add))
    found = attributes(task)
    assert {f"Add.kind={step.sticker.kind}", f"Add.cell={step.sticker.cell}"} <= found
    assert not [name for name in found if "size" in name or ".dx" in name]


def test_the_loss_by_hand() -> None:
    """Layers that say nothing give each of 5 attributes ln 2, whatever the labels: 5 ln 2, of row and pooled alike."""
    texts = {"prompt": torch.ones(3, 4, 6), "pooled": torch.ones(3, 2)}
    questions = Questions(texts, 5)
    for layer in (questions.row, questions.pooled):
        assert layer is not None
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    loss = answer_loss(questions, texts, torch.tensor([[1.0, 0, 0, 1, 0]] * 3))
    assert loss.item() == pytest.approx(5 * math.log(2), rel=1e-6)


def test_what_stands_behind_the_end_is_not_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randn(2, 5, 6, generator=generator)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    questions = Questions({"prompt": prompt}, 4)
    (answers,) = questions({"prompt": prompt, "prompt_mask": mask})
    (shorter,) = questions({"prompt": prompt[1:, :3]})
    torch.testing.assert_close(answers[1:], shorter)


def store_of(trainee: Trainee, recipe: EditorRecipe, folder: Path) -> LatentStore:
    folder.mkdir()
    chunk = TaskChunks(EditMixture(recipe.edits), recipe.edits.tasks)[0]
    save_file(encode_chunk(trainee, chunk, "fp32"), folder / "shard-00000.safetensors")
    return LatentStore(folder, recipe.edits.number)


@pytest.mark.parametrize("name", ["kontext", "qwen"])
def test_encoders_learn_to_answer(name: str, tmp_path: Path) -> None:
    """The loss falls below a half; what was learnt is loaded when the stage comes again."""
    trainee, fresh = (copy.deepcopy(tiny_trainee(name)) for _ in range(2))
    recipe = EditorRecipe.model_validate(
        {
            "name": "tiny",
            "editor": name,
            "edits": {"number": 24, "per_task": 2},
            "text": {"steps": 30, "batch_size": 8, "warmup": 5, "learning_rate": 5e-3},
            "precision": "fp32",
            "log_every": 1,
            "device": "cpu",
        }
    )
    run = RunDir.create(tmp_path / "run", {})
    losses: list[float] = []
    with trainee.faster(), fresh.faster():
        store = store_of(trainee, recipe, tmp_path / "latents")
        none = recipe.model_copy(update={"text": recipe.text.model_copy(update={"steps": 0})})
        train_text(trainee, store, none, run)
        assert not (run.path / FILE).exists()
        train_text(trainee, store, recipe, run, lambda *told: losses.append(told[3]["loss"]))
        assert len(losses) == 30
        assert losses[-1] < 0.5 * losses[0]
        rows = store.rows(np.arange(2))
        with torch.no_grad():
            before = fresh.embed(rows.tokens, rows.pixels)["prompt"]
            train_text(fresh, store, recipe, run)
            after, wanted = (t.embed(rows.tokens, rows.pixels)["prompt"] for t in (fresh, trainee))
    assert torch.equal(after, wanted)
    assert not torch.equal(after, before)
    assert all(key.split(".")[0] in trainee.text_models for key in load_file(run.path / FILE))
    (row,) = [row for row in run.metrics() if row.get("stage") == "text"]
    assert 0 <= row["held_out/text/prompt"] <= 1
    longer = recipe.model_copy(update={"text": recipe.text.model_copy(update={"steps": 31}), "texts": 7})
    with pytest.raises(ConfigError, match=r"other settings \((text, texts|texts, text)\): delete that file"):
        train_text(fresh, store, longer, run)
    save_file(load_file(run.path / FILE), run.path / FILE)  # a file that says nothing of its settings
    with pytest.raises(ConfigError, match="other settings"):
        train_text(fresh, store, recipe, run)
    assert ("held_out/text/pooled" in row) == (name == "kontext")


def test_a_training_that_diverges_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainee = copy.deepcopy(tiny_trainee("kontext"))
    recipe = EditorRecipe.model_validate(
        {"name": "tiny", "editor": "kontext", "edits": {"number": 4}, "precision": "fp32", "device": "cpu"}
    )
    run = RunDir.create(tmp_path / "run", {})
    store = store_of(trainee, recipe, tmp_path / "latents")
    monkeypatch.setattr(text, "answer_loss", lambda questions, *asked: questions.row.weight.sum() * math.inf)
    with pytest.raises(ModelError, match=r"step 1 was not finite: lower text\.learning_rate"):
        train_text(trainee, store, recipe, run)
    assert not (run.path / FILE).exists()

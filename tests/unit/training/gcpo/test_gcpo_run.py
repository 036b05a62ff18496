"""A whole GCPO run with a tiny random model: what it writes, and that an interrupted one ends like an uninterrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gcpo_helpers import by_hash
from safetensors.torch import load_file
from transformers import TrainerCallback

from editr1.datasets.preferences import read_preferences
from editr1.errors import ConfigError
from editr1.judges import TransformersJudge
from editr1.judges.testing import tiny_qwen
from editr1.reports import load_items
from editr1.training.gcpo.card import write_card
from editr1.training.gcpo.recipe import GcpoRecipe, Lora, Stickers
from editr1.training.gcpo.run import train_gcpo
from editr1.training.gcpo.trainer import GCPOTrainer
from editr1.training.gcpo.watch import Watch
from editr1.verifier.config import VerifierConfig
from editr1.verifier.template import load_template


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GcpoRecipe:
    """Rewards by a hash of the text: a random model's answers hold no verdict, and would teach nothing."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setitem(GCPOTrainer.__init__.__kwdefaults__, "read", by_hash)
    parent = tmp_path / "parent"
    tiny_qwen(parent, initializer_range=0.05)
    VerifierConfig(max_tokens=8).write(parent, load_template("compact"))
    return GcpoRecipe(
        name="tiny",
        parent=str(parent),
        stickers=Stickers(train=8, heldout=4),
        rollouts=3,
        pairs_per_step=2,
        halves_per_pass=2,
        steps=5,
        learning_rate=1e-2,
        save_every=2,
        eval_every=2,
        sample_every=2,
        heldout_pairs=2,
        samples=1,
        keep_checkpoints=1,
        device="cpu",
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("time", "step_time")} for row in found]


def break_off_in_step_3(recipe: GcpoRecipe, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_step_end = Watch.on_step_end

    def break_off(self: Watch, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        on_step_end(self, args, state, control, **kwargs)
        if state.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_step_end", break_off)
        with pytest.raises(KeyboardInterrupt):
            train_gcpo(recipe, folder)


def test_an_interrupted_run_ends_like_an_uninterrupted_one(
    recipe: GcpoRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off in step 3, after the checkpoint of step 2; the pairs are gone through more than once."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train_gcpo(recipe, whole)
    break_off_in_step_3(recipe, broken, monkeypatch)
    assert (broken / "checkpoints" / "latest").read_text() == "step-000002\n"
    model = train_gcpo(recipe, broken)

    weights = [load_file(folder / "model" / "model.safetensors") for folder in (whole, broken)]
    parent = load_file(Path(recipe.parent) / "model.safetensors")
    assert any(not weights[0][name].equal(parent[name]) for name in parent), "nothing was learnt, so nothing is tested"
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert rows(whole) == rows(broken)
    assert [row["step"] for row in rows(whole)] == [0, 1, 2, 3, 4, 5]
    assert [row["step"] for row in rows(whole) if "heldout/failed" in row] == [0, 2, 4, 5]
    assert [p.name for p in (broken / "checkpoints").iterdir() if p.is_dir()] == ["step-000005"]
    assert not list(broken.rglob("training_args.bin")), "a pickle"
    kept = [json.loads(line)["step"] for line in (broken / "samples" / "rollouts.jsonl").read_text().splitlines()]
    assert kept == [1] * 6 + [2] * 6 + [4] * 6
    assert {item["id"] for item in load_items(broken)} == {
        f"0/{half}@{step}" for half in ("preferred", "other") for step in (0, 5)
    }
    assert VerifierConfig.read(model / "verifier_config.json").template == "compact"
    assert json.loads((broken / "config.json").read_text())["temperature"] == 1.0

    before = (model / "model.safetensors").read_bytes()
    train_gcpo(recipe, broken)  # once more: nothing is left to do
    assert (model / "model.safetensors").read_bytes() == before
    assert rows(broken) == rows(whole)


def test_an_interrupted_adapter_ends_like_an_uninterrupted_one(
    recipe: GcpoRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off in step 3, after the checkpoint of step 2."""
    lora = recipe.model_copy(update={"lora": Lora(rank=2, alpha=4.0, targets=["q_proj", "v_proj"]), "steps": 4})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train_gcpo(lora, whole)
    break_off_in_step_3(lora, broken, monkeypatch)
    train_gcpo(lora, broken)
    weights = [load_file(folder / "model" / "adapter_model.safetensors") for folder in (whole, broken)]
    assert any(value.abs().max() > 0 for name, value in weights[0].items() if "lora_B" in name)
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert rows(whole) == rows(broken)
    before = (broken / "model" / "adapter_model.safetensors").read_bytes()
    train_gcpo(lora, broken)  # once more: nothing is left to do
    assert (broken / "model" / "adapter_model.safetensors").read_bytes() == before


def test_the_vision_tower_can_be_left_as_it_is(recipe: GcpoRecipe, tmp_path: Path) -> None:
    short = recipe.model_copy(update={"train_vision": False, "steps": 2, "heldout_pairs": 0, "samples": 0})
    learnt = load_file(train_gcpo(short, tmp_path / "run") / "model.safetensors")
    parent = load_file(Path(recipe.parent) / "model.safetensors")
    changed = {name for name in parent if not learnt[name].equal(parent[name])}
    assert changed
    assert not any("visual" in name for name in changed)
    assert any("visual" in name for name in parent)


def test_the_recipe_says_who_compares_the_simulated_pairs(recipe: GcpoRecipe, tmp_path: Path) -> None:
    """They are made when a run begins; one step is enough to look at them."""
    drawn = Stickers(train=8, heldout=4, people="exacting")
    train_gcpo(recipe.model_copy(update={"stickers": drawn, "steps": 1, "samples": 0}), tmp_path / "run")
    found = {pair.annotator for pair in read_preferences(tmp_path / "run/pairs/train.parquet")}
    assert found <= {"simulated:cy", "simulated:dee"}


def test_callbacks_of_the_caller_see_each_gradient(recipe: GcpoRecipe, tmp_path: Path) -> None:
    norms = []

    class Look(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            norms.append(sum(float(w.grad.norm()) for w in model.parameters() if w.grad is not None))

    train_gcpo(recipe.model_copy(update={"steps": 2}), tmp_path / "run", callbacks=[Look()])
    assert len(norms) == 2
    assert all(norm > 0 for norm in norms)


def test_an_adapter_is_written_with_its_base_and_loads_like_a_model(recipe: GcpoRecipe, tmp_path: Path) -> None:
    """Trained on the parent's bfloat16 weights in memory as float32; interrupted, it goes on with the same adapter."""
    lora = recipe.model_copy(update={"lora": Lora(rank=2, alpha=4.0, targets=["q_proj", "v_proj"]), "steps": 4})
    model = train_gcpo(lora, tmp_path / "whole")
    train_gcpo(lora.model_copy(update={"steps": 2}), tmp_path / "broken")
    config = json.loads((model / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == recipe.parent
    assert not (model / "config.json").exists()
    card = (model / "README.md").read_text()
    assert "library_name: peft" in card
    assert f"`{Path(recipe.parent).name}` reinforced on preference pairs" in card
    assert "a LoRA adapter, rank 2, alpha 4; 4 steps of 2 pairs with 3 rollouts" in card
    assert "| without a verdict | 100.0 | 100.0 |" in card
    assert json.loads((model / "training.json").read_text())["recipe"]["lora"]["rank"] == 2
    assert VerifierConfig.read(model / "verifier_config.json").template == "compact"
    weights = load_file(model / "adapter_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert any(value.abs().max() > 0 for name, value in weights.items() if "lora_B" in name)

    alone, beside = TransformersJudge(model), TransformersJudge(recipe.parent, adapter=str(model))
    assert alone.fingerprint == beside.fingerprint != TransformersJudge(recipe.parent).fingerprint
    with pytest.raises(ConfigError, match="is an adapter itself"):
        TransformersJudge(model, adapter=str(model))
    with pytest.raises(ConfigError, match="is an adapter: train it in full"):
        train_gcpo(lora.model_copy(update={"parent": str(model)}), tmp_path / "again")
    further = train_gcpo(recipe.model_copy(update={"parent": str(model), "steps": 1}), tmp_path / "further")
    assert (further / "model.safetensors").is_file()


def test_small_changes_are_not_rounded_away(recipe: GcpoRecipe, tmp_path: Path) -> None:
    """A parent in bfloat16 and a step of 1e-7: in bfloat16 only weights that are nearly 0 would have moved."""
    tiny_qwen(initializer_range=0.05)[0].bfloat16().save_pretrained(recipe.parent)
    model = train_gcpo(recipe.model_copy(update={"learning_rate": 1e-7, "steps": 1}), tmp_path / "run")
    parent, learnt = (load_file(folder / "model.safetensors") for folder in (Path(recipe.parent), model))
    moved = sum(int((learnt[name] != parent[name].float()).sum()) for name in parent)
    left = sum(int((learnt[name].bfloat16() != parent[name]).sum()) for name in parent)
    assert moved > 1000
    assert left < 0.05 * moved
    assert json.loads((model / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize(
    ("beta", "said"), [(0.05, ", KL to the parent weighted 0.05, seed 0."), (0.0, "schedule, seed 0.")]
)
def test_the_card_says_whether_there_was_a_kl(recipe: GcpoRecipe, tmp_path: Path, beta: float, said: str) -> None:
    card = write_card(tmp_path, recipe.model_copy(update={"beta": beta}), VerifierConfig(), [])
    assert said in card.read_text()

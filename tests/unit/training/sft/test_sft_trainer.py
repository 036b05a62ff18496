"""The trainer on a tiny model: the loss is what it should be, a killed run goes on, what is written can be used."""

from __future__ import annotations

import io
import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from editr1.config import load
from editr1.errors import ConfigError, DataError, ModelError
from editr1.judges.transformers import TransformersJudge
from editr1.training.sft import setup, trainer
from editr1.training.sft.data import Collator, TrainingOrder, find_files, index_chats, open_rows
from editr1.training.sft.encode import IGNORED, Encoder
from editr1.training.sft.recipe import SftRecipe
from editr1.training.sft.trainer import train_sft
from editr1.verifier import Verifier


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in rows_of(folder) if "loss" in row]


def test_the_loss_is_the_mean_over_the_answers_tokens(sft_recipe, sft_parent, tmp_path):
    """The first step's loss against a cross-entropy in float64, over logits of the whole sequences, found here.

    The step has two micro-batches with different numbers of answer tokens: a mean of their means would differ.
    """
    recipe = sft_recipe(steps=1, modes=("think",), batch_size=4, micro_batch_size=2, bucket=False)
    train_sft(recipe, tmp_path / "run")
    model = AutoModelForImageTextToText.from_pretrained(sft_parent, dtype=torch.float32).double()
    processor = AutoProcessor.from_pretrained(sft_parent)
    encoder = Encoder(processor, {processor.tokenizer.eos_token_id})
    rows = open_rows(find_files(recipe.data)[0])
    chats = index_chats(rows, recipe.modes, encoder, first=nullcontext())
    total, count, means = 0.0, 0, []
    for place in TrainingOrder(chats.lengths, 4, 1, bucket=False):
        batch = Collator([rows], encoder)([chats.dataset(0)[place]])
        labels = batch.pop("labels")[0, 1:]
        with torch.no_grad():
            logits = model(**{k: v.double() if v.is_floating_point() else v for k, v in batch.items()}).logits[0, :-1]
        kept = labels != IGNORED
        losses_here = torch.nn.functional.cross_entropy(logits[kept], labels[kept], reduction="none")
        total, count = total + losses_here.sum().item(), count + int(kept.sum())
        means.append(losses_here.mean().item())
    ((_, loss),) = losses(tmp_path / "run")
    assert loss == pytest.approx(total / count, rel=1e-5)
    assert abs(sum(means) / 4 - total / count) > 1e-4  # the wrong mean would have been noticed


class Killed(Exception):
    pass


def die_at(step: int):
    def report(row):
        if row["step"] == step:
            raise Killed

    return report


LORA = {"rank": 4, "alpha": 8, "dropout": 0.3}


@pytest.mark.parametrize(
    "how", [{}, {"lora": LORA}, {"optimizer": "muon", "weight_decay": 0.1}], ids=["full", "lora", "muon"]
)
def test_a_killed_run_goes_on_with_the_same_losses_and_weights(sft_recipe, tmp_path, how):
    """Killed at step 5, after the checkpoint of step 4; LoRA with dropout, so that the random state counts."""
    recipe = sft_recipe(**how, held_out={"every": 3, "edits": 2})
    whole = train_sft(recipe, tmp_path / "whole")
    with pytest.raises(Killed):
        train_sft(recipe, tmp_path / "killed", die_at(5))
    assert (tmp_path / "killed/checkpoints/latest").read_text() == "step-000004\n"
    killed = train_sft(recipe, tmp_path / "killed")
    plain = [
        [{k: v for k, v in row.items() if k != "time"} for row in rows_of(tmp_path / n)] for n in ("whole", "killed")
    ]
    assert plain[0] == plain[1]
    assert [step for step, _ in losses(tmp_path / "killed")] == [1, 2, 3, 4, 5, 6]
    one, two = (load_file(folder / "model.safetensors") for folder in (whole, killed))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert sorted(p.name for p in (tmp_path / "killed/checkpoints").iterdir()) == [
        "latest",
        "step-000004",
        "step-000006",
    ]
    assert not list((tmp_path / "killed/checkpoints").rglob("training_args.bin"))


def test_a_run_killed_after_its_last_step_measures_no_figure_twice(sft_recipe, tmp_path, monkeypatch):
    recipe = sft_recipe(held_out={"every": 6, "edits": 2})
    monkeypatch.setattr(trainer, "_finish", lambda *_: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        train_sft(recipe, tmp_path / "run")
    monkeypatch.undo()
    folder = train_sft(recipe, tmp_path / "run")
    assert sum("eval_loss" in row for row in rows_of(tmp_path / "run")) == 1
    assert json.loads((folder / "training.json").read_text())["held_out"]["judged"] == 2


def test_the_model_learns_and_asks_as_it_was_taught(sft_recipe, tmp_path):
    """Forty steps: the loss falls by far, and the written verifier asks in the mode that it was taught."""
    recipe = sft_recipe(steps=40, save_every=40, modes=("verify",), learning_rate=5e-3, notice="colours only")
    folder = train_sft(recipe, tmp_path / "run")
    curve = [loss for _, loss in losses(tmp_path / "run")]
    assert curve[-1] < curve[0] / 3
    assert train_sft(recipe, tmp_path / "run") == folder  # finished: nothing is done again
    assert len(losses(tmp_path / "run")) == 40
    verifier = Verifier.from_pretrained(folder)
    assert verifier.template.name == "compact-verify"
    assert verifier.notice == "colours only"
    assert verifier.sampling.max_tokens % 64 == 0
    weights, config = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    assert {w.dtype for w in weights.values()} == {torch.bfloat16}
    assert config["dtype"] == "bfloat16"
    assert "lm_head.weight" not in weights  # tied to the embedding, and stored once
    card = (folder / "README.md").read_text()
    assert "12 chats" in card
    assert "colours only" in card.lower()
    assert {"config.json", "environment.json", "data.json", "metrics.jsonl"} <= {
        p.name for p in (tmp_path / "run").iterdir()
    }


def test_lora_leaves_the_vision_tower_alone_and_merges(sft_recipe, sft_parent, tmp_path, sft_row):
    recipe = sft_recipe(lora={"rank": 4, "alpha": 8}, learning_rate=2e-2)
    folder = train_sft(recipe, tmp_path / "run")
    adapter = load_file(tmp_path / "run/adapter/adapter_model.safetensors")
    assert adapter
    assert all("language_model" in name and "visual" not in name for name in adapter)
    assert {w.dtype for w in adapter.values()} == {torch.float32}
    merged, parent = load_file(folder / "model.safetensors"), load_file(sft_parent / "model.safetensors")
    assert merged.keys() == parent.keys()
    changed = {name for name in merged if not torch.equal(merged[name], parent[name].to(torch.bfloat16))}
    assert changed
    assert all(name.startswith("model.layers.") and name.endswith("_proj.weight") for name in changed)
    # the adapter on its parent is the merged model, to bfloat16
    both = TransformersJudge(str(sft_parent), adapter=str(tmp_path / "run/adapter")).model.state_dict()
    alone = TransformersJudge(str(folder)).model.state_dict()
    for name, tensor in both.items():
        assert torch.allclose(tensor, alone[name], atol=2e-2, rtol=1e-2), name


def test_bfloat16_computing_trains_float32_weights(sft_recipe, sft_parent, tmp_path):
    """Updates of 1e-6 would be lost in bfloat16 weights, of size 0.05: they must all be there in the checkpoint."""
    train_sft(sft_recipe(precision="bf16", learning_rate=1e-6, steps=2, gradient_checkpointing=True), tmp_path / "run")
    now = load_file(tmp_path / "run/checkpoints/step-000002/model.safetensors")
    parent = load_file(sft_parent / "model.safetensors")
    assert {w.dtype for w in now.values()} == {torch.float32}
    name = "model.layers.0.mlp.up_proj.weight"  # as it is called on disk
    moved = (now[name] - parent[name]).abs()
    assert 0 < moved.max() < 1e-5
    assert (moved > 0).float().mean() > 0.9


def test_a_frozen_vision_tower_stays(sft_recipe, sft_parent, tmp_path):
    train_sft(sft_recipe(train_vision=False, steps=2), tmp_path / "run")
    now = load_file(tmp_path / "run/checkpoints/step-000002/model.safetensors")
    parent = load_file(sft_parent / "model.safetensors")
    changed = {name for name in now if not torch.equal(now[name], parent[name])}
    assert changed
    assert not [name for name in changed if "visual" in name]


def test_the_faster_attention_gives_the_same_losses(sft_recipe, tmp_path):
    """The embedded models attend over whole pictures in every block; so must this one."""
    from editr1.judges.testing import tiny_qwen

    tiny_qwen(tmp_path / "parent", hidden_size=32, vision_hidden_size=16, vision_depth=1, initializer_range=0.05)
    curves = []
    for fast in (False, True):
        recipe = sft_recipe(
            model=str(tmp_path / "parent"), steps=3, uniform_pictures=fast, held_out={"every": 3, "edits": 2}
        )
        train_sft(recipe, tmp_path / f"run-{fast}")
        curves.append(losses(tmp_path / f"run-{fast}"))
    for (_, slow), (_, fast) in zip(*curves, strict=True):
        assert fast == pytest.approx(slow, rel=1e-4)


def test_the_faster_attention_refuses_pictures_of_several_sizes(sft_recipe, sft_row, sft_write, tmp_path):
    from editr1.judges.testing import tiny_qwen

    tiny_qwen(tmp_path / "parent", hidden_size=32, vision_hidden_size=16, vision_depth=1)
    rows = [sft_row(n) for n in range(4)]
    buffer = io.BytesIO()
    Image.new("RGB", (64, 32)).save(buffer, "PNG")
    rows[1]["source"] = {"bytes": buffer.getvalue(), "path": None}
    data = (str(sft_write(tmp_path / "mixed", rows, [])),)
    with pytest.raises(DataError, match="pictures differ in size: set uniform_pictures=false"):
        train_sft(sft_recipe(model=str(tmp_path / "parent"), data=data, uniform_pictures=True), tmp_path / "run")


def test_pictures_are_bounded_in_the_saved_processor_too(sft_recipe, tmp_path):
    folder = train_sft(sft_recipe(max_pixels=512, steps=1), tmp_path / "run")
    assert AutoProcessor.from_pretrained(folder).image_processor.size["longest_edge"] == 512
    with pytest.raises(ConfigError, match="max_pixels = 9 cannot be set"):
        train_sft(sft_recipe(max_pixels=9, steps=1), tmp_path / "other")


def test_a_loss_that_is_no_number_stops_the_run(sft_recipe, tmp_path):
    with pytest.raises(ModelError, match=r"is (nan|inf) at step \d+: lower learning_rate"):
        train_sft(sft_recipe(learning_rate=1e30, max_grad_norm=1e30, warmup=0, steps=20), tmp_path / "run")


def test_a_run_is_not_gone_on_with_under_other_settings_or_data(sft_recipe, tmp_path, sft_row, sft_write):
    with pytest.raises(Killed):
        train_sft(sft_recipe(), tmp_path / "run", die_at(3))
    with pytest.raises(ConfigError, match=r"holds a run with learning_rate = 0.001, not 0.5: choose another"):
        train_sft(sft_recipe(learning_rate=0.5), tmp_path / "run")
    sft_write(tmp_path / "export", [sft_row(n) for n in range(9)], [])
    with pytest.raises(DataError, match=r"was begun with other data or another parent \(chats was 12, is 9\)"):
        train_sft(sft_recipe(), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "no/where/at/all"}, ModelError, "no model 'no/where/at/all'"),
        ({"model": "sticker-base-huge"}, ModelError, "no model 'sticker-base-huge'|cannot be loaded"),
        ({"data": ("nowhere",)}, DataError, "no Parquet file at nowhere"),
        ({"lora": {"targets": ["no_proj"]}}, ConfigError, "no linear layer of the model is named by .*no_proj"),
        ({"tracker": "wandb"}, ConfigError, "the tracker 'wandb' is not installed: uv pip install wandb"),
        ({"attention": "sonar"}, ConfigError, "cannot use attention = 'sonar'"),
        ({"template": "default"}, ConfigError, "'default' is not the one that the chats were rendered with"),
    ],
)
def test_bad_recipes_are_one_sentence(sft_recipe, tmp_path, changes, error, message, monkeypatch):
    monkeypatch.setattr(setup, "find_spec", lambda name: None)
    with pytest.raises(error, match=message) as caught:
        train_sft(sft_recipe(**changes), tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_model_that_reads_no_pictures(sft_recipe, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    from editr1.judges.testing import tiny_tokenizer

    config = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=384
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    tiny_tokenizer().save_pretrained(tmp_path / "llama")
    with pytest.raises(ModelError, match="image-text-to-text"):
        train_sft(sft_recipe(model=str(tmp_path / "llama")), tmp_path / "run")


def test_held_out_rows_are_asked_for_where_there_are_none(sft_recipe, tmp_path, sft_row, sft_write):
    sft_write(tmp_path / "other", [sft_row(n) for n in range(4)], [])
    with pytest.raises(DataError, match="no held-out rows to measure on"):
        train_sft(sft_recipe(data=(str(tmp_path / "other"),), held_out={"every": 2}), tmp_path / "run")


def test_a_batch_that_the_processes_cannot_share(sft_recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="cannot be shared by 3 processes .* make it a multiple of 6"):
        train_sft(sft_recipe(), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": {"edits": 4}}, "weights that FSDP shards cannot answer while they train: set held_out.edits=0"),
        ({"lora": {}}, "LoRA does not go with FSDP"),
    ],
)
def test_what_sharded_weights_cannot_do(sft_recipe, tmp_path, monkeypatch, changes, message):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match=message):
        train_sft(sft_recipe(**changes), tmp_path / "run")


def test_several_gpus_want_a_launch(sft_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(ConfigError, match="one process sees 4 GPUs: use `accelerate launch"):
        train_sft(sft_recipe(device="auto"), tmp_path / "run")


def test_the_finished_model_goes_to_the_hub(sft_recipe, tmp_path, monkeypatch):
    """A login is asked for before the training, and the folder goes up after it; a failed push is tried again."""
    calls = []

    class Hub:
        down = True

        def whoami(self):
            calls.append("whoami")

        def create_repo(self, name, *, private, exist_ok):
            calls.append((name, private))

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            if Hub.down:
                raise OSError("no network")
            calls.append((repo_id, sorted(p.name for p in Path(folder_path).iterdir())))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    recipe = sft_recipe(steps=1, push_to_hub="me/verifier")
    with pytest.raises(ModelError, match=r"the model is in .*model, but 'me/verifier' did not take it \(no network\)"):
        train_sft(recipe, tmp_path / "run")
    Hub.down = False
    train_sft(recipe, tmp_path / "run")
    assert calls[:2] == ["whoami", ("me/verifier", True)]
    assert {"README.md", "model.safetensors", "verifier_config.json"} <= set(calls[-1][1])
    assert len(losses(tmp_path / "run")) == 1


def test_without_a_login_nothing_is_trained(sft_recipe, tmp_path, monkeypatch):
    from huggingface_hub.errors import LocalTokenNotFoundError

    class Hub:
        def whoami(self):
            raise LocalTokenNotFoundError("no token")

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    with pytest.raises(ConfigError, match="needs a login that the hub accepts"):
        train_sft(sft_recipe(push_to_hub="me/verifier"), tmp_path / "run")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rte=1", "learning_rate"),
        ("modes=[]", "modes"),
        ('modes=["thinking"]', "thinking"),
        ("batch_size=7", "multiple of micro_batch_size"),
        ("save_every=15", "multiple of log_every"),
    ],
)
def test_recipes_are_checked(repository, override, message):
    with pytest.raises(ConfigError, match=message):
        load(
            SftRecipe,
            repository / "recipes/sticker/sft-small.toml",
            [override, "log_every=10", "uniform_pictures=false"],
        )


RECIPES = [
    "sticker/sft-small",
    "sticker/sft-large",
    *(f"qwen2.5-vl/sft-{size}-{how}" for size in ("3b", "7b") for how in ("lora", "full")),
]


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_recipes_load(repository, name):
    recipe = load(SftRecipe, repository / f"recipes/{name}.toml")
    processes = 8 if name.endswith("full") else 1
    assert recipe.batch_size % (recipe.micro_batch_size * processes) == 0
    assert (recipe.lora is not None) == name.endswith("lora")

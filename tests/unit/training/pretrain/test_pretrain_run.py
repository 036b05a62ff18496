"""Pretraining of the embedded editors from end to end, at sizes that train in seconds."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain_helpers import KONTEXT, QWEN
from safetensors.torch import load_file

from editr1.editors import build_editor, sample, sticker_pipeline, sticker_qwen
from editr1.errors import ConfigError, ModelError
from editr1.stickers.tasks import sample_task
from editr1.training.pretrain import run, vae
from editr1.training.pretrain.recipe import EditorRecipe

BASE: dict[str, Any] = {
    "name": "tiny",
    "texts": 120,
    "vae": {"steps": 4, "batch_size": 2, "warmup": 1, "measured": 4},
    "edits": {"number": 12, "per_task": 2, "shard": 2},
    "text": {"steps": 3, "batch_size": 4, "warmup": 1},
    "flow": {"steps": 6, "batch_size": 4, "warmup": 2},
    "held_out": {"every": 3, "per_kind": 1, "final": 1, "samples": 1, "steps": 2},
    "workers": 0,
    "log_every": 1,
    "save_every": 2,
    "precision": "fp32",
    "device": "cpu",
}


def recipe(editor: str, **changes: Any) -> EditorRecipe:
    return EditorRecipe(**(BASE | {"editor": editor} | changes))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Editors of a few ten thousand weights in the place of the small ones; two kinds of held-out tasks."""
    monkeypatch.setitem(sticker_pipeline.SIZES, "small", KONTEXT)
    monkeypatch.setitem(sticker_qwen.SIZES, "small", QWEN)
    for module in (run, vae):
        monkeypatch.setattr(module, "held_out_tasks", lambda split, number: [sample_task(split, i) for i in (1, 7)])


class Killed(Exception):
    pass


def die_at(stage: str, step: int) -> Callable[..., None]:
    def report(now: str, done: int, total: int, figures: dict[str, float]) -> None:
        if (now, done) == (stage, step):
            raise Killed

    return report


@pytest.mark.parametrize("editor", ["kontext", pytest.param("qwen", marks=pytest.mark.slow)])
def test_a_run_killed_in_every_stage_ends_with_the_weights_of_one_that_was_not(editor: str, tmp_path: Path) -> None:
    """Killed between checkpoints of the VAE and of the flow, between files of latents, and amid the text encoders."""
    torch.use_deterministic_algorithms(True)
    try:
        whole = run.pretrain_editor(recipe(editor), tmp_path / "whole")
        for stage, step in (("vae", 3), ("latents", 2), ("text", 2), ("flow", 5)):
            with pytest.raises(Killed):
                run.pretrain_editor(recipe(editor), tmp_path / "killed", die_at(stage, step))
        killed = run.pretrain_editor(recipe(editor), tmp_path / "killed")
    finally:
        torch.use_deterministic_algorithms(False)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert len(files) == (4 if editor == "kontext" else 3)
    for file in files:
        one, two = load_file(whole / file), load_file(killed / file)
        assert all(torch.equal(one[name], two[name]) for name in one), file
    rows = [[json.loads(line) for line in (tmp_path / n / "metrics.jsonl").open()] for n in ("whole", "killed")]
    keys = ("step", "stage", "loss", "held_out/right")
    assert [[row.get(k) for k in keys] for row in rows[0]] == [[row.get(k) for k in keys] for row in rows[1]]
    assert [row["step"] for row in rows[0]] == [1, 2, 3, 4, 4, 4, *range(5, 11)]


def test_the_finished_model_is_whole(tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    model = run.pretrain_editor(recipe("kontext"), tmp_path)
    pipeline = DiffusionPipeline.from_pretrained(model)
    assert type(pipeline).__name__ == "FluxKontextPipeline"
    assert {t.dtype for t in load_file(model / "transformer/diffusion_pytorch_model.safetensors").values()} == {
        torch.bfloat16
    }
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
    editor = build_editor(model, device="cpu")
    task = sample_task("test", 1).edit_task()
    assert next(sample(editor, editor.encode([task]), [0], 2)).images[0].size == (96, 96)
    card = (model / "README.md").read_text()
    record = json.loads((model / "training.json").read_text())
    assert "simulated" in card
    assert f"PSNR {record['held_out']['vae/psnr']:.1f} dB" in card
    assert sum(record["data"].values()) == pytest.approx(1, abs=1e-3)
    for name in ("step-000007.png", "step-000010.jsonl", "final.png"):
        assert (tmp_path / "samples" / name).is_file()
    assert [p.name for p in sorted((tmp_path / "checkpoints").glob("step-*"))] == ["step-000008", "step-000010"]


def test_measuring_leaves_what_is_trained_as_it_was(tmp_path: Path) -> None:
    """Text encoders that the flow leaves alone (a share of 0 of the rate) stay so after a measurement at step 3."""
    flow = BASE["flow"] | {"text_rate": 0.0}
    run.pretrain_editor(recipe("kontext", flow=flow), tmp_path)
    before = load_file(tmp_path / "text.safetensors")["text_encoder_2.shared.weight"]
    after = load_file(tmp_path / "model/text_encoder_2/model.safetensors")["shared.weight"]
    assert torch.equal(after, before.bfloat16())
    (row,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open() if '"step": 7,' in line]
    assert "held_out/explained/1" in row


def test_latents_of_other_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run.pretrain_editor(recipe("kontext"), tmp_path, die_at("flow", 1))
    with pytest.raises(ConfigError, match=r"other settings \(edits\)"):
        run.pretrain_editor(recipe("kontext", edits=BASE["edits"] | {"right": 0.9}), tmp_path)


_PROGRAM = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {helpers!r})
from pretrain_helpers import KONTEXT
from editr1.editors import sticker_pipeline
from editr1.stickers.tasks import sample_task
from editr1.training.pretrain import run, vae
from editr1.training.pretrain.recipe import EditorRecipe
sticker_pipeline.SIZES["small"] = KONTEXT
for module in (run, vae):
    module.held_out_tasks = lambda split, number: [sample_task(split, 1)]
kill = {kill!r}
def report(stage, done, total, figures):
    if [stage, done] == kill:
        os.kill(os.getpid(), signal.SIGKILL)
run.pretrain_editor(EditorRecipe(**{recipe!r}), Path({folder!r}), report)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_with_minus_9_four_times(tmp_path: Path) -> None:
    """In four processes that end without a chance to write anything, with a worker process that draws."""

    def launch(folder: str, kill: list[object] | None) -> int:
        settings = BASE | {"editor": "kontext", "workers": 1}
        text = _PROGRAM.format(
            helpers=str(Path(__file__).parent), kill=kill, recipe=settings, folder=str(tmp_path / folder)
        )
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, "-c", text], check=False, env=environment).returncode

    assert launch("whole", None) == 0
    kills: list[list[object]] = [["vae", 3], ["latents", 1], ["text", 1], ["flow", 4]]
    assert [launch("killed", kill) for kill in kills] == [-9] * 4
    assert launch("killed", None) == 0
    for file in (tmp_path / "whole/model").rglob("*.safetensors"):
        other = load_file(tmp_path / "killed/model" / file.relative_to(tmp_path / "whole/model"))
        assert all(torch.equal(value, other[name]) for name, value in load_file(file).items()), file


def test_flow_matching_learns(tmp_path: Path) -> None:
    """A silent transformer starts at E|e - x0|^2 = 2 for latents of unit variance."""
    changes = {
        "vae": BASE["vae"] | {"steps": 1},
        "edits": BASE["edits"] | {"number": 8},
        "flow": BASE["flow"] | {"steps": 40, "batch_size": 8, "learning_rate": 3e-3},
        "held_out": BASE["held_out"] | {"every": 0},
        "save_every": 1000,
    }
    run.pretrain_editor(recipe("kontext", **changes), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    losses = [row["loss"] for row in rows if row["stage"] == "flow"]
    assert losses[0] == pytest.approx(2, abs=0.4)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5]), losses


def test_it_goes_on_from_an_editor_that_is_there(tmp_path: Path) -> None:
    """With no step of the flow it is the same editor; neither autoencoder nor words are learnt anew."""
    first = run.pretrain_editor(recipe("kontext"), tmp_path / "first")
    flow = BASE["flow"] | {"steps": 1, "warmup": 0, "learning_rate": 1e-30, "weight_decay": 0.0}
    again = run.pretrain_editor(recipe("kontext", start=str(first), flow=flow), tmp_path / "again")
    for part in ("vae", "transformer", "text_encoder", "text_encoder_2"):
        (one, two) = (next((model / part).glob("*.safetensors")) for model in (first, again))
        weights = load_file(two)
        assert all(torch.equal(value, weights[name]) for name, value in load_file(one).items()), part
    one, two = (json.loads((model / "tokenizer_2/tokenizer.json").read_text())["model"] for model in (first, again))
    assert one == two
    stages = [json.loads(line)["stage"] for line in (tmp_path / "again/metrics.jsonl").open()]
    assert set(stages) == {"flow"}
    card = (again / "README.md").read_text()
    assert f"- **Training**: started from `{first}`, whose tokenizers and autoencoder it has; then transformer" in card
    assert (
        "- **Training**: autoencoder 4 steps of 2 pictures; text encoders 3 steps" in (first / "README.md").read_text()
    )


def test_what_is_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = (run.pretrain_editor(recipe("kontext", seed=seed), tmp_path / str(seed)) for seed in (0, 1))
    with pytest.raises(ConfigError, match="set editor and size to its own"):
        run.pretrain_editor(recipe("qwen", start=str(first)), tmp_path / "qwen")
    with pytest.raises(ConfigError, match="is not the autoencoder of .*: name another run directory"):
        run.pretrain_editor(recipe("kontext", start=str(other)), first.parent)
    with pytest.raises(ModelError, match="there is no editor"):
        run.pretrain_editor(recipe("kontext", start=str(tmp_path / "nowhere")), tmp_path / "nothing")
    monkeypatch.setitem(sticker_pipeline.SIZES, "small", dataclasses.replace(KONTEXT, double=2))
    with pytest.raises(ConfigError, match="of another size or architecture than 'kontext', 'small'"):
        run.pretrain_editor(recipe("kontext", start=str(first)), tmp_path / "larger")

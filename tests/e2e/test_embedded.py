"""The shipped models, end to end: what a newcomer's first commands show."""

import json
import subprocess
import sys

import numpy as np
import pytest

from editr1 import Verifier
from editr1.editors import build_editor, sample_images
from editr1.editors.names import LORA_FILE, SHIPPED_LORAS
from editr1.editors.sticker_pipeline import OPTIONS, make_sticker_kontext, save_pipeline
from editr1.evaluation.stickers import evaluate_edits, evaluate_pairs, evaluate_probes
from editr1.judges.names import MODELS_FOLDER
from editr1.rewards.sticker_pixels import pixel_utility
from editr1.stickers.draw import draw
from editr1.stickers.faults import EDITORS
from editr1.stickers.tasks import sample_task
from editr1.types import Category, VerdictStatus


@pytest.fixture(scope="module")
def verifier():
    return Verifier.from_pretrained("embedded")


def editr1(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "editr1", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_it_agrees_with_the_oracle_on_fresh_edits(verifier):
    """A small sample of the measurement in docs/results; the bounds leave room for its spread."""
    result = evaluate_edits(verifier, 88, split="e2e")
    assert result.accuracy.value >= 0.92
    assert result.balanced["All"].value >= 0.82
    assert result.parsed.value >= 0.97


def test_it_orders_right_unchanged_and_wrong(verifier):
    result = evaluate_probes(verifier, 33, split="e2e-probes")
    assert result.ordered.value >= 0.85
    assert result.mean_scores["right"] > 8 > 2 > result.mean_scores["unchanged"]


def test_scores_do_not_depend_on_batch_mates_or_order(verifier):
    from editr1.evaluation.stickers import item

    tasks = [sample_task("mates", i) for i in range(3)]
    items = [item(t, e.edit(t).scene, e.name) for t in tasks for e in EDITORS.values()]
    together = verifier.score_many(items)
    backwards = verifier.score_many(items[::-1])[::-1]
    alone = [verifier.score_many([i])[0] for i in items[::4]]
    assert [v.score for v in together] == [v.score for v in backwards]
    assert [v.score for v in together[::4]] == [v.score for v in alone]


def test_it_splits_instructions_itself(verifier):
    task = sample_task("split", 3, multi_step=False)
    picture = task.edit_task().source
    principles = verifier.decompose(picture, task.instruction)
    assert {p.category for p in principles} == set(Category)
    verdict = verifier.score(picture, picture, task.instruction, id="same")
    assert verdict.status is VerdictStatus.OK, verdict.error
    assert [c.principle for c in verdict.checks] == list(principles)
    assert verdict.score < 3, "nothing was done"


def test_several_passes_give_spread_and_agreement():
    verifier = Verifier.from_pretrained("embedded", passes=3)
    task = sample_task("passes", 5)
    verdict = verifier.score(
        task.edit_task().source, EDITORS["sloppy"].edit(task).picture(), task.instruction, task.principles
    )
    assert verdict.passes is not None
    assert len(verdict.passes.scores) + verdict.passes.failed == 3
    assert len(verdict.passes.agreement) == len(task.principles)


def test_score_one_edit_as_json(tmp_path):
    editr1("stickers", "sample", "--out", tmp_path, "-n", "1", "--split", "cli", cwd=tmp_path)
    row = json.loads((tmp_path / "edits.jsonl").read_text())
    arguments = ("--source", row["source"], "--edited", row["edited"], "--instruction", row["instruction"])
    done = editr1("score", *arguments, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    keys = {"id", "status", "score", "average_score", "checks", "reasoning", "judge", "prompt_hash", "usage", "seconds"}
    assert keys <= verdict.keys()
    assert verdict["status"] == "ok"
    assert 0 <= verdict["score"] <= 10
    assert verdict["checks"][0].keys() == {"question", "category", "met", "reason"}
    assert "note:" not in done.stderr


def test_it_says_that_it_knows_stickers_only(tmp_path):
    from PIL import Image

    Image.effect_noise((300, 200), 60).save(tmp_path / "mine.png")
    done = editr1(
        "score", "--source", "mine.png", "--edited", "mine.png", "--instruction", "Make it blue", "--json", cwd=tmp_path
    )
    notes = [line for line in done.stderr.splitlines() if line.startswith("note:")]
    assert len(notes) == 1
    assert "sticker" in notes[0]
    assert "--model" in notes[0]


def test_the_demo_writes_a_report(tmp_path):
    done = editr1("demo", "--contexts", "3", "--seed", "1", "--steps", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "checks agree with the oracle" in done.stdout
    report = (tmp_path / "runs/demo/report.html").read_text()
    assert report.count("data:image/png;base64,") >= 9
    verdicts = [json.loads(line) for line in (tmp_path / "runs/demo/verdicts.jsonl").open()]
    assert len(verdicts) == 9
    again = editr1("score", "runs/demo/edits.jsonl", "--out", "runs/demo/verdicts.jsonl", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len((tmp_path / "runs/demo/verdicts.jsonl").read_text().splitlines()) == 9, "nothing is judged twice"


@pytest.mark.slow
def test_the_demo_goes_on_with_an_editor(tmp_path):
    """A fresh editor knows nothing: what counts is that it learns a step, and that edits are shown before and after."""
    folder = save_pipeline(make_sticker_kontext("small", ["make it blue"] * 50), tmp_path / "editor", OPTIONS)
    done = editr1("demo", "--contexts", "1", "--seed", "1", "--steps", "1", "--editor", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs/demo/editor-1"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    assert [row["step"] for row in rows if "eval_watch/truth" in row] == [0, 1]
    assert (run / "lora/pytorch_lora_weights.safetensors").is_file()
    report = (run / "report.html").read_text()
    assert "step 0" in report
    assert "step 1" in report
    assert "utility, by the oracle" in done.stdout


@pytest.mark.parametrize("name", ["sticker-base-small", "sticker-verifier-small", "sticker-verifier-large"])
def test_models_load_by_path_have_cards_and_are_small(name):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = MODELS_FOLDER / name
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert type(AutoProcessor.from_pretrained(folder)).__name__ == "Qwen2_5_VLProcessor"
    card = (folder / "README.md").read_text()
    assert "simulated" in card
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters" in card
    assert (folder / "model.safetensors").stat().st_size < 25e6
    assert not [f.name for f in folder.iterdir() if f.suffix in (".bin", ".pt", ".pkl")]


@pytest.mark.parametrize("size", ["small", "large"])
def test_reinforced_ones_are_adapters_on_the_fine_tuned(size):
    """They load by name and judge; a right edit is above the untouched picture."""
    folder = MODELS_FOLDER / f"sticker-gcpo-{size}"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"sticker-verifier-{size}"
    assert (folder / "adapter_model.safetensors").stat().st_size < 5e6
    assert "simulated" in (folder / "README.md").read_text()
    reinforced = Verifier.from_pretrained(f"sticker-gcpo-{size}")
    result = evaluate_probes(reinforced, 11, split="e2e-probes")
    assert result.mean_scores["right"] > 7 > 3 > result.mean_scores["unchanged"]
    assert evaluate_edits(reinforced, 22, split="e2e").accuracy.value >= 0.85


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_figures_that_it_has_to_reach(verifier):
    """On splits that no training saw, at full size: see docs/results/embedded-verifier.md."""
    edits = evaluate_edits(verifier, 1000)
    assert edits.parsed.value >= 0.99
    assert edits.accuracy.value >= 0.88
    for family in ("Follow", "Keep", "Quality"):
        assert edits.balanced[family].value >= 0.80, family
    assert evaluate_pairs(verifier, 1000).strict.value >= 0.75
    assert evaluate_probes(verifier, 300).ordered.value >= 0.95


@pytest.mark.parametrize("name", ["embedded", "sticker-qwen-small"])
def test_embedded_editors_go_the_right_way(name):
    """Where a right edit changes the source, its pictures are much nearer to the right edit than the source is."""
    editor = build_editor(name, device="cpu")
    tasks = [sample_task("e2e-editor", index, multi_step=False) for index in range(33)]
    contexts = editor.encode([task.edit_task() for task in tasks])
    made = np.stack(sample_images(editor, contexts, seeds=[0] * len(tasks))).astype(float)
    right, source = (
        np.stack([draw(scene) for scene in scenes]).astype(float)
        for scenes in ([t.after for t in tasks], [t.before for t in tasks])
    )
    changed = np.abs(right - source).max(axis=-1) > 24
    assert ((made - right)[changed] ** 2).mean() < 0.5 * ((source - right)[changed] ** 2).mean()


def test_editors_after_rl_ship_as_loras():
    """They load by name, say what made them, and do more of what 66 held-out tasks ask for than the editor before."""
    tasks = [sample_task("e2e-editor-rl", index) for index in range(66)]

    def utility(model, lora=None):
        editor = build_editor(model, lora=lora, device="cpu")
        contexts = editor.encode([task.edit_task() for task in tasks])
        pictures = sample_images(editor, contexts, seeds=[0] * len(tasks))
        return np.mean([pixel_utility(t, p) for t, p in zip(tasks, pictures, strict=True)])

    before = {model: utility(model) for model in ("sticker-kontext-small", "sticker-qwen-small")}
    for name in SHIPPED_LORAS:
        settings = json.loads((MODELS_FOLDER / name / "training.json").read_text())
        model = settings["editor"]
        assert settings["name"] == name
        assert name.startswith(f"{model}-rl-")
        assert "learnt from: judge" in (MODELS_FOLDER / name / "README.md").read_text()
        assert (MODELS_FOLDER / name / LORA_FILE).stat().st_size < 1.2e6
        after = utility(model, name)
        assert after > before[model] + 0.1, name

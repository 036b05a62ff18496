"""Whole runs of editor RL with a tiny random editor and rewards without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from editor_helpers import Scored, brightness, make_recipe, rows, write_editor, write_tasks
from PIL import Image
from safetensors.torch import load_file

from editr1.editors.jobs import read_tasks
from editr1.errors import ConfigError, ModelError
from editr1.rewards import RewardError, Watched
from editr1.training.editor.contexts import derive_seed
from editr1.training.editor.grpo import FlowGrpo
from editr1.training.editor.loop import train_editor
from editr1.types import EditTask, VerdictStatus

EVAL = {"contexts": {"path": "", "format": "tasks", "first": 6, "count": 2}, "every": 2, "pictures": 2}


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_editor(tmp_path_factory.mktemp("editor") / "tiny")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(autouse=True)
def no_lookup_of_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than a whole tiny run."""
    monkeypatch.setattr("editr1.rundir.describe_environment", lambda seeds=None: {"seeds": seeds})


def with_eval(tasks: Path, **changes: Any) -> dict[str, Any]:
    return EVAL | {"contexts": EVAL["contexts"] | {"path": str(tasks)}} | changes


def weights(folder: Path, name: str = "weights") -> dict[str, torch.Tensor]:
    latest = (folder / "checkpoints" / "latest").read_text().strip()
    return load_file(folder / "checkpoints" / latest / f"{name}.safetensors")


@pytest.mark.parametrize("algorithm", ["flow-grpo", "nft"])
def test_a_run_and_its_lora_in_plain_diffusers(algorithm: str, editor: Path, tasks: Path, tmp_path: Path) -> None:
    """The pipeline of diffusers with the exported LoRA makes the very pictures of the last evaluation."""
    from diffusers import FluxKontextPipeline

    from editr1.editors import build_editor

    more = {"grpo": {"kl": 0.1}} if algorithm == "flow-grpo" else {"nft": {"kl": 0.1}}
    rewards = {"judge": {"kind": "verifier"}, "second": {"kind": "verifier", "watch": True}}
    recipe = make_recipe(editor, tasks, algorithm=algorithm, eval=with_eval(tasks), rewards=rewards, **more)
    reward = Watched(Scored(), {"second": Scored(lambda sample: 1 - brightness(sample))})
    lora = train_editor(recipe, tmp_path / "run", lambda: reward)

    found = rows(tmp_path / "run")
    assert [row["step"] for row in found] == [0, 1, 2, 3]
    assert [row["step"] for row in found if "eval_reward" in row] == [0, 2, 3]
    last = found[-1]
    assert {"reward/tone_transfer", "reward/subject-add", "group_std", "zero_variance", "unchanged"} <= last.keys()
    assert {"diversity", "unscored", "unreadable", "grad_norm", "kl", "loss", "failed_share"} <= last.keys()
    assert last["watch/second"] == pytest.approx(1 - last["reward"])
    assert last["eval_watch/second"] == pytest.approx(1 - last["eval_reward"])
    assert found[1]["kl"] == 0, "the policy began as the reference"
    assert last["kl"] > 0

    folder = tmp_path / "run" / "samples"
    kept = [json.loads(line) for line in (folder / "edits.jsonl").read_text().splitlines()]
    assert [(row["step"], row["task"]) for row in kept] == [(s, f"t{n}") for s in (0, 2, 3) for n in (6, 7)]
    assert all((folder / row[role]).is_file() for row in kept for role in ("source", "edited"))
    assert Image.open(folder / "step-000003.png").size == (3 * 32 + 8, 2 * 32 + 4)

    all_tasks = [task for task in read_tasks(tasks) if isinstance(task, EditTask)]
    arguments = build_editor(editor, device="cpu").pipeline_arguments(all_tasks[6])
    plain = FluxKontextPipeline.from_pretrained(editor)
    plain.set_progress_bar_config(disable=True)
    pictures = {}
    for name in ("before", "after"):
        if name == "after":
            plain.load_lora_weights(lora)
        generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "eval", 0, 0))
        pictures[name] = plain(**arguments, num_inference_steps=4, generator=generator).images[0]
    ours = [np.asarray(Image.open(folder / f"step-00000{step}" / "000.png")).astype(int) for step in (0, 3)]
    assert np.abs(ours[0] - np.asarray(pictures["before"]).astype(int)).max() <= 1
    assert np.abs(ours[1] - np.asarray(pictures["after"]).astype(int)).max() <= 1
    assert np.abs(ours[0] - ours[1]).mean() > 1, "nothing was learnt, so nothing was tested"
    assert "| reward |" in (lora / "README.md").read_text()
    assert json.loads((lora / "training.json").read_text()) == json.loads((lora.parent / "config.json").read_text())
    assert (tmp_path / "run" / "best" / "pytorch_lora_weights.safetensors").is_file()


@pytest.mark.parametrize(
    "changes",
    [
        {"updates": 2, "ema": {"decay": 0.5, "every": 1}, "grpo": {"window": {"kind": "random", "size": 1}}},
        {"algorithm": "nft", "nft": {"old_rate": 0.3, "draws": 2}, "warmup": 2},
        {"train": "full", "learning_rate": 1e-3, "grpo": {"kl": 0.04, "guard": True, "clip": 1e-5}},
    ],
    ids=["grpo", "nft", "full"],
)
def test_an_interrupted_run_ends_like_an_uninterrupted_one(
    changes: dict[str, Any], editor: Path, tasks: Path, tmp_path: Path
) -> None:
    """Broken off while the third iteration is scored, after two checkpoints."""
    recipe = make_recipe(editor, tasks, steps=4, keep=1, eval=with_eval(tasks, every=3), **changes)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train_editor(recipe, whole, Scored)
    calls = 0

    def break_off() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:  # one is the evaluation
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_editor(recipe, broken, lambda: Scored(before=break_off))
    assert (broken / "checkpoints" / "latest").read_text() == "step-000002\n"
    exported = train_editor(recipe, broken, Scored)

    for name in {path.name for path in (whole / "checkpoints" / "step-000004").glob("*.safetensors")}:
        one, two = (weights(folder, name.removesuffix(".safetensors")) for folder in (whole, broken))
        assert one.keys() == two.keys()
        assert all(one[key].equal(two[key]) for key in one), name
    assert rows(whole) == rows(broken)
    assert [row["step"] for row in rows(whole)] == [0, 1, 2, 3, 4]
    assert exported.name == ("pipeline" if recipe.train == "full" else "lora")
    files = [sorted(p.relative_to(f) for p in f.rglob("*.safetensors")) for f in (whole, broken)]
    assert files[0] == files[1]
    for file in files[0]:
        one, two = load_file(whole / file), load_file(broken / file)
        assert all(one[key].equal(two[key]) for key in one), file
    if recipe.train == "full":
        from editr1.editors import build_editor

        loaded = build_editor(exported, device="cpu").pipeline.transformer.state_dict()
        assert all(loaded[key].equal(value) for key, value in weights(whole).items())


def test_pictures_without_a_score_are_left_out_and_counted(editor: Path, tasks: Path, tmp_path: Path) -> None:
    """The first picture of every group fails; the gradient is that of the others."""

    def score(sample: Any) -> float | VerdictStatus:
        return VerdictStatus.TIMEOUT if sample.name.endswith(".0") else brightness(sample)

    recipe = make_recipe(editor, tasks, steps=2, failures={"retries": 0, "max_share": 0.5, "window": 8})
    train_editor(recipe, tmp_path / "run", lambda: Scored(score))
    found = rows(tmp_path / "run")
    assert [(row["unscored"], row["failed_timeout"], row["failed_share"]) for row in found] == [
        (0.25, 2, 0.25),
        (0.25, 4, 0.25),
    ]
    assert all(row["updates"] == 1 for row in found)


def test_too_many_failures_stop_a_run_with_a_checkpoint(editor: Path, tasks: Path, tmp_path: Path) -> None:
    """The reward dies in the third of four iterations; mended, the run ends as if it never had."""
    recipe = make_recipe(editor, tasks, steps=4, save_every=100, failures={"retries": 0, "max_share": 0.5, "window": 8})
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    def score(sample: Any) -> float | VerdictStatus:
        return VerdictStatus.ERROR if calls >= 3 else brightness(sample)

    with pytest.raises(RewardError, match=r"stopped in iteration 3.*8 of the last 8 rewards failed \(8 error\)"):
        train_editor(recipe, tmp_path / "broken", lambda: Scored(score, before=count))
    assert (tmp_path / "broken" / "checkpoints" / "latest").read_text() == "step-000002\n"
    train_editor(recipe, tmp_path / "broken", Scored)
    train_editor(recipe, tmp_path / "whole", Scored)
    one, two = (weights(tmp_path / name) for name in ("whole", "broken"))
    assert all(one[key].equal(two[key]) for key in one)
    assert rows(tmp_path / "whole") == rows(tmp_path / "broken")


def test_a_reward_that_never_works_stops_at_once(editor: Path, tasks: Path, tmp_path: Path) -> None:
    def broken() -> None:
        raise RewardError("nobody is there")

    with pytest.raises(RewardError, match="iteration 1.*nobody is there"):
        train_editor(make_recipe(editor, tasks), tmp_path / "run", lambda: Scored(before=broken))


def test_groups_without_variance_teach_nothing(editor: Path, tasks: Path, tmp_path: Path) -> None:
    recipe = make_recipe(editor, tasks, steps=2)
    train_editor(recipe, tmp_path / "run", lambda: Scored(lambda sample: 0.5))
    assert [(row["zero_variance"], row["updates"], row["skipped"]) for row in rows(tmp_path / "run")] == [(1, 0, 0)] * 2
    begun = load_file(tmp_path / "run" / "checkpoints" / "step-000001" / "weights.safetensors")
    assert all(value.equal(begun[key]) for key, value in weights(tmp_path / "run").items())
    assert not any(key for key in weights(tmp_path / "run", "optimizer"))


def test_gradients_that_are_not_finite_are_skipped_and_stop_a_run(
    editor: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FlowGrpo.loss

    def poisoned(self: FlowGrpo, prediction: Any, part: Any) -> Any:
        loss, metrics = original(self, prediction, part)
        return loss * float("nan"), metrics

    monkeypatch.setattr(FlowGrpo, "loss", poisoned)
    recipe = make_recipe(editor, tasks, steps=9, max_skipped=2)
    with pytest.raises(ModelError, match="not finite in 2 iterations in a row up to 2"):
        train_editor(recipe, tmp_path / "run", Scored)
    assert [row["skipped"] for row in rows(tmp_path / "run")] == [1, 1]
    assert (tmp_path / "run" / "checkpoints" / "latest").read_text() == "step-000002\n"
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def test_scoring_beside_sampling_changes_nothing(editor: Path, tasks: Path, tmp_path: Path) -> None:
    for overlap in (True, False):
        recipe = make_recipe(editor, tasks, steps=1, sampling={"steps": 4, "overlap": overlap})
        train_editor(recipe, tmp_path / str(overlap), Scored)
    assert rows(tmp_path / "True") == rows(tmp_path / "False")


def test_text_encoders_can_be_let_go_of(editor: Path, tasks: Path, tmp_path: Path) -> None:
    plain, released = (make_recipe(editor, tasks, steps=1, encoders=how) for how in ("stay", "release"))
    train_editor(plain, tmp_path / "plain", Scored)
    train_editor(released, tmp_path / "released", Scored)
    assert rows(tmp_path / "plain") == rows(tmp_path / "released")
    assert len(list((tmp_path / "released" / "contexts").rglob("*.safetensors"))) == 6


def test_another_recipe_does_not_go_on_with_a_run(editor: Path, tasks: Path, tmp_path: Path) -> None:
    train_editor(make_recipe(editor, tasks, steps=1), tmp_path, Scored)
    with pytest.raises(ConfigError, match=r"a run with seed = 0, not 1"):
        train_editor(make_recipe(editor, tasks, steps=1, seed=1), tmp_path, Scored)


def test_a_scoring_service_may_come_back_elsewhere(editor: Path, tasks: Path, tmp_path: Path) -> None:
    """How a reward is reached may change; which one it is may not."""

    def recipe(steps: int = 1, base_url: str = "http://one/v1", **service: Any) -> Any:
        asked = {"judge": {"base_url": base_url, "model": "m"}}
        reward = {"kind": "http", "url": "http://one:8700", "score": asked, **service}
        return make_recipe(editor, tasks, steps=steps, rewards={"judge": reward})

    train_editor(recipe(), tmp_path / "run", Scored)
    moved = {"url": "http://two:8700", "timeout": 9.0, "concurrency": 2, "token_env": "TOKEN"}
    train_editor(recipe(2, "http://two/v1", **moved), tmp_path / "run", Scored)
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2]
    with pytest.raises(ConfigError, match=r"a run with rewards.judge.scale = 'unit', not 'score': choose another"):
        train_editor(recipe(scale="score"), tmp_path / "run", Scored)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["flow-grpo", "nft"])
def test_it_learns(algorithm: str, editor: Path, tasks: Path, tmp_path: Path) -> None:
    """Brightness, which every instruction asks for, rises by far more than it varies between pictures."""
    recipe = make_recipe(
        editor,
        tasks,
        algorithm=algorithm,
        steps=30,
        group_size=12,
        sampling={"steps": 4, "batch_size": 12},
        micro_batch_size=12,
        learning_rate=5e-3,
        save_every=100,
        eval=with_eval(tasks, every=30, seeds=4),
        **({"grpo": {"clip": 1e-3}} if algorithm == "flow-grpo" else {}),
    )
    train_editor(recipe, tmp_path, Scored)
    found = rows(tmp_path)
    rise = found[-1]["eval_reward"] - found[0]["eval_reward"]
    assert rise > 2 * found[0]["eval_reward_std"], (rise, found[0]["eval_reward_std"])

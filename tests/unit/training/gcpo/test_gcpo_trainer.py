"""GCPO on TRL: the loss is the paper's, pairs stay whole, what is shared changes nothing, what cannot be is refused."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from gcpo_helpers import ROLLOUTS, by_hash, make_trainer, write_pairs

from editr1.errors import ConfigError, ModelError
from editr1.training.gcpo.rollouts import CheckedVllm, one_placeholder
from editr1.training.gcpo.trainer import GCPOTrainer, read_score
from editr1.training.gcpo.watch import SkipNonFinite, pair_figures
from editr1.types import Category, Check, EditVerdict, Principle, VerdictStatus
from editr1.verifier.render import format_answer


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory, pairs: Path) -> GCPOTrainer:
    return make_trainer(tmp_path_factory.mktemp("trainer"), pairs=pairs)


@pytest.fixture(scope="module")
def batch(trainer: GCPOTrainer) -> dict[str, Any]:
    """Rollouts of two pairs with their rewards: 2 pairs x 2 halves x 3."""
    trainer.model.train()
    return trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))


def scores_of(trainer: GCPOTrainer, batch: dict[str, Any]) -> torch.Tensor:
    """The scores of a batch's rollouts, read again from their tokens; float64, (pairs, 2, N)."""
    rows = zip(batch["completion_ids"].tolist(), batch["completion_mask"].tolist(), strict=True)
    ids = [[t for t, m in zip(*row, strict=True) if m] for row in rows]
    texts = trainer._tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return torch.tensor([by_hash(t, (), False)[0] for t in texts], dtype=torch.float64).view(-1, 2, ROLLOUTS)


def formula(log_ratio: torch.Tensor, mask: torch.Tensor, scores: torch.Tensor, clip: float) -> float:
    """The objective of section 3, negated, rollout by rollout in plain Python; log_ratio and mask (pairs, 2, N, T)."""
    total, pairs = 0.0, len(scores)
    for p in range(pairs):
        tau = scores[p].tolist()
        sign = (1, -1)  # the preferred half earns by scoring above, the other by scoring below
        for half in (0, 1):
            ratios = [
                sum(sign[half] * (mine - theirs) > 0 for theirs in tau[1 - half]) / ROLLOUTS for mine in tau[half]
            ]
            for j, ratio in enumerate(ratios):
                advantage = ratio - sum(ratios) / ROLLOUTS
                tokens = [t for t, m in enumerate(mask[p, half, j].tolist()) if m]
                rho = [math.exp(log_ratio[p, half, j, t].item()) for t in tokens]
                gains = [min(r * advantage, min(max(r, 1 - clip), 1 + clip) * advantage) for r in rho]
                total += sum(gains) / len(tokens)
    return -total / (2 * ROLLOUTS * pairs)


def test_the_loss_is_the_papers(trainer: GCPOTrainer, batch: dict[str, Any]) -> None:
    """On a fixed batch whose ratios are off 1, inside and outside the clip, against the formula in float64."""
    trainer.current_gradient_accumulation_steps = 1
    with torch.no_grad():
        trainer._groups = batch["group"]
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        fields = {k: batch[k] for k in ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")}
        width = batch["completion_ids"].shape[1]
        now, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width, **fields)
        generator = torch.Generator().manual_seed(0)
        log_ratio = torch.randn(now.shape, generator=generator) * 0.3
        loss = trainer._compute_loss(trainer.model, batch | {"old_per_token_logps": now - log_ratio})
    shape = (-1, 2, ROLLOUTS, width)
    expected = formula(
        log_ratio.view(shape), batch["completion_mask"].view(shape), scores_of(trainer, batch), trainer.args.epsilon
    )
    assert abs(expected) > 1e-3, "the batch must have something to say"
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_sharing_what_is_shared_changes_neither_loss_nor_gradient(trainer: GCPOTrainer, batch: dict[str, Any]) -> None:
    """Against TRL's own forward, row by row, on prompts of unlike lengths."""
    lengths = batch["prompt_mask"].sum(1)
    assert lengths.min() < lengths.max()
    trainer.current_gradient_accumulation_steps = 1
    old = {"old_per_token_logps": torch.full_like(batch["completion_ids"], -6, dtype=torch.float32)}

    def gradients() -> tuple[float, dict[str, torch.Tensor]]:
        trainer.model.zero_grad()
        loss = trainer._compute_loss(trainer.model, batch | old)
        loss.backward()
        return loss.item(), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}

    loss, shared = gradients()
    trainer.without_sharing = "a test"
    try:
        plain_loss, plain = gradients()
    finally:
        trainer.without_sharing = None
        trainer.model.zero_grad()
    assert loss == pytest.approx(plain_loss, abs=1e-6)
    assert shared.keys() == plain.keys()
    assert any("visual" in name and gradient.abs().max() > 1e-6 for name, gradient in plain.items())
    for name, gradient in plain.items():
        torch.testing.assert_close(shared[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("taught", [(0, 3), ()])
def test_groups_that_teach_nothing_are_left_out_and_change_nothing(
    trainer: GCPOTrainer, batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch, taught: tuple[int, ...]
) -> None:
    """Two of four groups, or none, have advantages: loss and gradient are those of computing all of them."""
    trainer.current_gradient_accumulation_steps = 1
    advantages = torch.zeros(4, ROLLOUTS)
    for group in taught:
        advantages[group] = torch.linspace(-1, 1, ROLLOUTS)
    inputs = batch | {"advantages": advantages.flatten()}
    assert "old_per_token_logps" not in inputs
    computed: list[int] = []
    forward = trainer._forward_shared

    def counted(model: Any, rows: list[list[int]], *rest: Any) -> Any:
        computed.append(len(rows))
        return forward(model, rows, *rest)

    def gradients() -> tuple[float, dict[str, torch.Tensor]]:
        trainer.model.zero_grad()
        loss = trainer._compute_loss(trainer.model, inputs)
        loss.backward()
        return loss.item(), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}

    monkeypatch.setattr(trainer, "_forward_shared", counted)
    loss, found = gradients()
    monkeypatch.setattr(trainer, "_without_gradient", lambda inputs: None)
    whole_loss, whole = gradients()
    trainer.model.zero_grad()
    assert computed == [len(taught) or 1, 4]
    assert loss == pytest.approx(whole_loss, abs=1e-6)
    assert found.keys() == whole.keys()
    assert any(gradient.abs().max() > 1e-6 for gradient in whole.values()) == bool(taught)
    for name, gradient in whole.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_rollouts_of_the_engine_are_on_policy(trainer: GCPOTrainer, batch: dict[str, Any]) -> None:
    """Rollouts of unlike prompts differ, those of a group do too, and none holds a picture's placeholder."""
    rows = [tuple(row) for row in batch["completion_ids"].tolist()]
    assert len(set(rows)) > len(rows) // 2
    assert not torch.isin(batch["completion_ids"], torch.tensor(trainer.model.config.image_token_id)).any()


def test_one_step_moves_the_weights_and_logs_what_there_is_to_watch(tmp_path: Path, pairs: Path) -> None:
    trainer = make_trainer(tmp_path, pairs=pairs)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
    row = trainer.state.log_history[0]
    watched = {"win_ratio", "loss_ratio", "tie_ratio", "unscored", "flat", "pairs_without_advantage"}
    watched |= {"weighted_advantage", "reasoning_tokens", "entropy", "score_preferred", "score_other"}
    assert watched <= row.keys()
    assert row["win_ratio"] == pytest.approx(row["loss_ratio"])
    assert row["entropy"] > 0
    assert [r["half"] for r in trainer.last_rollouts] == ["preferred"] * 3 + ["other"] * 3


def test_a_pair_never_straddles(trainer: GCPOTrainer, batch: dict[str, Any]) -> None:
    found = list(trainer._get_train_sampler())
    for start in range(0, len(found), 2 * ROLLOUTS):
        rows = found[start : start + 2 * ROLLOUTS]
        assert rows == [rows[0]] * ROLLOUTS + [rows[0] + 1] * ROLLOUTS
        assert rows[0] % 2 == 0
    assert len(found) == len(trainer._get_train_sampler())
    advantages = batch["advantages"].view(-1, ROLLOUTS)
    torch.testing.assert_close(advantages.sum(1), torch.zeros(len(advantages)), atol=1e-6, rtol=0)


def test_groups_stay_whole_in_the_passes(tmp_path: Path, pairs: Path) -> None:
    trainer = make_trainer(tmp_path, pairs=pairs)
    trainer.model.train()
    rows = next(iter(trainer.get_train_dataloader()))
    seen = []
    for trainer._step in range(4):
        part = trainer._prepare_inputs(rows)
        assert len(part["group"]) == ROLLOUTS
        assert len(set(part["group"].tolist())) == 1
        seen.append(part["group"][0].item())
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"num_generations": 4}, "torn apart"),
        ({"remove_unused_columns": True}, "principles"),
        ({"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": ROLLOUTS}, "held-out pairs"),
        ({"accelerator_config": {"split_batches": True}}, "tear pairs"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(
    tmp_path: Path, pairs: Path, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        make_trainer(tmp_path, pairs=pairs, changes=changes)


def test_a_model_that_the_engine_does_not_know_goes_through_generate(tmp_path: Path, pairs: Path) -> None:
    trainer = make_trainer(tmp_path, pairs=pairs, changes={"top_k": 5})
    assert trainer.without_engine == "top_k is set"
    trainer.train()
    assert trainer.state.log_history[0]["win_ratio"] >= 0
    with pytest.raises(ConfigError, match="top_k is set"):
        make_trainer(tmp_path, pairs=pairs, changes={"top_k": 5}, engine="fast")


def test_lora_and_kl(tmp_path: Path, pairs: Path) -> None:
    from peft import LoraConfig

    adapter = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    trainer = make_trainer(tmp_path, pairs=pairs, changes={"beta": 0.1, "max_steps": 2}, peft_config=adapter)
    assert trainer.without_engine is None
    assert trainer.without_sharing is None
    trainer.train()
    assert [row["kl"] for row in trainer.state.log_history[:2]] == [pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1)]
    assert trainer.state.log_history[1]["kl"] > 0


PRINCIPLES = (Principle("Is the star gone?", Category.FOLLOW), Principle("Is it sharp?", Category.QUALITY))


def test_scores_are_read_by_the_strict_parser() -> None:
    checks = [Check(p, True, "seen") for p in PRINCIPLES]
    text = format_answer("It is gone.", checks, 7.5, echo_question=False)
    score, reasoning = read_score(text, PRINCIPLES, False)
    assert (score, reasoning.strip()) == (7.5, "It is gone.")
    for bad, cut in ((text, True), (text[:40], False), (text + " <score>3</score>", False), ("", False)):
        assert math.isnan(read_score(bad, PRINCIPLES, cut)[0])


class FakeVllm:
    """Widens each placeholder to 3 tokens, as vLLM does with the prompts that it is given."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def generate(self, prompts: list[list[int]], images: Any, num_generations: int, profiler: Any = None) -> Any:
        wide = [[t for token in ids for t in ([9] * 3 if token == 9 else [token])] for ids in prompts]
        return (wide if self.mode == "colocate" else prompts), [[1]] * len(prompts), None, None


def test_vllm_gets_placeholders_that_it_will_widen() -> None:
    prompts = [[1, 9, 9, 9, 2, 9, 9, 9, 3]]
    assert one_placeholder(prompts[0], 9) == [1, 9, 2, 9, 3]
    for mode in ("colocate", "server"):
        read, answers, *_ = CheckedVllm(FakeVllm(mode), 9).generate(prompts, [["a", "b"]], 1)
        assert (read, answers) == (prompts, [[1]])


def test_vllm_that_read_another_prompt_stops_the_run() -> None:
    """Pictures of another size than the processor made of them: the rollouts would be on another prompt."""
    with pytest.raises(ModelError, match="6294"):
        CheckedVllm(FakeVllm("colocate"), 9).generate([[1, 9, 9, 2]], [["a"]], 1)


RANKS = """
    import sys, json
    sys.path.insert(0, {helpers!r})
    from pathlib import Path
    import datasets, torch
    folder = Path({folder!r})
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    from gcpo_helpers import make_trainer
    passes = int({passes})
    trainer = make_trainer(folder, pairs=Path({pairs!r}), changes={{"gradient_accumulation_steps": passes}})
    trainer.model.train()
    rows = next(iter(trainer.get_train_dataloader()))
    out = trainer._generate_and_score_completions(rows)
    mine = {{
        "rows": [[r["id"], r["half"]] for r in rows],
        "advantages": out["advantages"].tolist(),
        "metrics": {{k: v[-1] for k, v in trainer._metrics["train"].items()}},
    }}
    (folder / f"rank-{{trainer.accelerator.process_index}}.json").write_text(json.dumps(mine))
"""


@pytest.mark.slow
def test_two_processes_give_the_rewards_of_one(tmp_path: Path, pairs: Path) -> None:
    import json

    found = {}
    for world in (1, 2):
        folder = tmp_path / str(world)
        folder.mkdir()
        program = folder / "program.py"
        text = RANKS.format(helpers=str(Path(__file__).parent), folder=str(folder), passes=4 // world, pairs=str(pairs))
        program.write_text(textwrap.dedent(text))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world}"]
        done = subprocess.run([*command, str(program)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        ranks = [json.loads((folder / f"rank-{r}.json").read_text()) for r in range(world)]
        found[world] = {key: [row for rank in ranks for row in rank[key]] for key in ("rows", "advantages")}
        found[world]["metrics"] = ranks[0]["metrics"]
        for rank in ranks:
            ids = [name for name, _ in rank["rows"]]
            assert all(ids.count(name) == 2 * ROLLOUTS for name in ids), "a pair straddles"
    assert found[1]["rows"] == found[2]["rows"]
    assert any(found[1]["advantages"])
    assert found[2]["advantages"] == pytest.approx(found[1]["advantages"], abs=1e-6)
    for name in ("win_ratio", "tie_ratio", "unscored", "weighted_advantage", "score_preferred"):
        assert found[2]["metrics"][name] == pytest.approx(found[1]["metrics"][name], abs=1e-6), name


def test_settings_are_those_of_the_paper_by_default(tmp_path: Path) -> None:
    from editr1.rundir import RunDir
    from editr1.training.gcpo.recipe import GcpoRecipe, Stickers
    from editr1.training.gcpo.run import settings as settings_of

    recipe = GcpoRecipe(name="x", parent="embedded", stickers=Stickers(), trl={"delta": 4.0})
    made = settings_of(recipe, RunDir(tmp_path))
    assert (made.scale_rewards, made.loss_type, made.beta, made.num_iterations) == ("none", "grpo", 0.0, 1)
    assert made.generation_batch_size == 2 * recipe.pairs_per_step * recipe.rollouts
    assert made.delta == 4.0
    with pytest.raises(ConfigError, match="is it 'delta'"):
        settings_of(recipe.model_copy(update={"trl": {"deltaa": 1}}), RunDir(tmp_path))


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch(trainer: GCPOTrainer) -> None:
    """Two pairs a step: an epoch has half as many steps as there are pairs."""
    steps = len(trainer.train_dataset) // 4
    orders = []
    for done in (0, steps - 1, steps):
        trainer.state.global_step = done
        orders.append(list(trainer._get_train_sampler()))
    trainer.state.global_step = 0
    assert steps >= 2
    assert orders[0] == orders[1] != orders[2]
    assert all(len(set(order)) == 4 * steps for order in orders)


def test_the_prompt_is_the_one_that_a_judge_is_asked(trainer: GCPOTrainer, pairs: Path) -> None:
    """To the token, and with the same pictures: what is learnt is what is used."""
    from editr1.judges.base import ChatRequest
    from editr1.judges.fast.prompts import tokenise
    from editr1.training.gcpo.data import load_pairs, pair_at
    from editr1.verifier.inputs import Loader
    from editr1.verifier.render import render_score
    from editr1.verifier.template import load_template

    row, pair = trainer.train_dataset[3], pair_at(load_pairs(pairs), 1)
    assert row["half"] == 1
    task = pair.task
    item = {"source": task.source, "edited": pair.other, "instruction": task.instruction, "principles": task.principles}
    job = Loader(None).job(0, item)
    chat = render_score(
        load_template("compact"), job.context.source, job.edited, task.instruction, task.principles or ()
    )
    (asked,), pictures = tokenise([ChatRequest(chat)], trainer.processing_class, 2)
    ids, _, fields = trainer._tokenize_prompts([row["prompt"]] * ROLLOUTS)
    assert not isinstance(asked, str)
    assert list(ids[0]) == asked.ids.tolist()
    torch.testing.assert_close(torch.as_tensor(fields["pixel_values"]), torch.cat(pictures.patches))


def test_control_tokens_in_an_instruction_are_taken_apart(trainer: GCPOTrainer, pairs: Path) -> None:
    from editr1.judges.base import Message, Text
    from editr1.training.gcpo.data import Halves, load_pairs
    from editr1.verifier.template import load_template

    halves = Halves(load_pairs(pairs), load_template("compact"), trainer.processing_class)
    (turn,) = halves._conversation([Message("user", (Text("red<|im_end|>"),))])
    assert turn["content"] == [{"type": "text", "text": "red< |im_end|>"}]


def verdict(score: float | None) -> EditVerdict:
    if score is None:
        return EditVerdict(VerdictStatus.UNPARSEABLE)
    return EditVerdict(VerdictStatus.OK, checks=(), average_score=1.0, score=score)


def test_pair_figures() -> None:
    """Of 5 pairs 4 are scored: 2 wins, 1 tie, 1 loss."""
    scores = [(8, 3), (5, 2), (4, 4), (1, 9), (7, None)]
    figures = pair_figures([(verdict(a), verdict(b)) for a, b in scores])
    assert figures == {
        "heldout/failed": pytest.approx(0.2),
        "heldout/strict": 0.5,
        "heldout/half_credit": 0.625,
        "heldout/ties": 0.25,
        "heldout/score_preferred": 4.5,
        "heldout/score_other": 4.5,
    }
    assert pair_figures([(verdict(None), verdict(1))]) == {"heldout/failed": 1.0}
    assert pair_figures([]) == {}


def test_a_gradient_that_is_not_finite_moves_nothing_and_too_many_stop_the_run(tmp_path: Path, pairs: Path) -> None:
    guard = SkipNonFinite(1)
    trainer = make_trainer(tmp_path, pairs=pairs, callbacks=[guard], changes={"max_steps": 3})
    guard.trainer = trainer
    weight = next(trainer.model.parameters())
    weight.register_hook(lambda gradient: gradient * float("nan"))
    before = [p.detach().clone() for p in trainer.model.parameters()]
    with pytest.raises(ModelError, match="2 steps in a row"):
        trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
    assert trainer.state.log_history[0]["skipped"] == 1

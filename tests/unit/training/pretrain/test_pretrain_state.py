"""Rates, averages and checkpoints of pretraining."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from editr1.rundir import RunDir
from editr1.training.pretrain.recipe import FlowRecipe
from editr1.training.pretrain.state import TrainState, learning_rate, make_optimizers


def test_learning_rate_by_hand() -> None:
    """Warm-up of 4 to 1: 0.25, 0.5, 0.75, 1. Then from step 4 to 8 a cosine to 0.1: at the middle 0.55."""
    schedule = FlowRecipe(steps=8, warmup=4, learning_rate=1.0)
    rates = [learning_rate(step, schedule) for step in range(9)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert (rates[6], rates[8]) == (pytest.approx(0.55), pytest.approx(0.1))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedder = nn.Linear(2, 2)
        self.inside = nn.Linear(2, 2)
        self.words = nn.Embedding(3, 2)
        self.kernels = nn.Conv2d(2, 3, 3)


def state_of(module: nn.Module, ema: float | None = 0.5, rate: float = 0.1, kind: str = "adamw") -> TrainState:
    return TrainState({"m": module}, make_optimizers({"m": module}, rate, 0.01, kind), ema)


def test_muon_takes_the_matrices_inside() -> None:
    module = Twice()
    (muon, adamw) = make_optimizers({"m": module}, 0.1, 0.01, "muon")
    given = [p.data_ptr() for group in muon.param_groups for p in group["params"]]
    assert given == [module.inside.weight.data_ptr(), module.kernels.weight.data_ptr()]
    matrices, rest = adamw.param_groups
    assert {id(p) for p in matrices["params"]} == {id(module.embedder.weight), id(module.words.weight)}
    assert (matrices["weight_decay"], rest["weight_decay"]) == (0.01, 0.0)
    assert {id(p) for p in rest["params"]} == {id(m.bias) for m in (module.embedder, module.inside, module.kernels)}


def test_the_average_by_hand() -> None:
    """Decay is the lesser of 0.5 and (1 + n) / (10 + n), at step 0 1/10, at step 8 1/2.

    From 1 to w: 0.1 + 0.9 w; and at step 8 the middle of average and weight.
    """
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(1.0)
    state = state_of(module)
    module.weight.grad = torch.ones(1, 1)
    norm = state.step(0, 0.1, most=10.0)
    assert norm == pytest.approx(1.0)
    weight = module.weight.item()
    assert weight < 1
    average = state.average["m.weight"].item()
    assert average == pytest.approx(0.1 + 0.9 * weight, rel=1e-6)
    module.weight.grad = torch.ones(1, 1)
    state.step(8, 0.1, most=10.0)
    assert state.average["m.weight"].item() == pytest.approx((average + module.weight.item()) / 2, rel=1e-6)
    with state.averaged():
        assert module.weight.item() == state.average["m.weight"].item()
    assert module.weight.item() < state.average["m.weight"].item()


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    module = nn.Linear(1, 1, bias=False)
    state = state_of(module)
    before, average = module.weight.item(), state.average["m.weight"].item()
    module.weight.grad = torch.full((1, 1), float("nan"))
    assert not torch.tensor(state.step(0, 0.1, 1.0)).isfinite()
    assert (module.weight.item(), state.average["m.weight"].item()) == (before, average)
    assert module.weight.grad is None


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_checkpoint_goes_on_where_it_was(kind: str, tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, {})

    def one(state: TrainState, module: Twice, number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        for p in module.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        state.step(number, 0.1, 1.0)

    first = Twice()
    state = state_of(first, kind=kind)
    for number in range(3):
        one(state, first, number)
        state.save(run, number + 1, keep=2)
    assert [path.name for path in sorted(run.checkpoints.glob("step-*"))] == ["step-000002", "step-000003"]
    second = Twice()
    other = state_of(second, kind=kind)
    assert other.resume(run, after=5) == 5  # of a stage before
    assert other.resume(run, after=0) == 3
    for module, s in ((first, state), (second, other)):
        one(s, module, 3)
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))
    assert all(torch.equal(state.average[name], other.average[name]) for name in state.average)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_module_can_have_a_share_of_the_rate(kind: str) -> None:
    """At a rate of 0.2, of which the second module has half, Adam's first step is 0.2 and 0.1 for every bias."""
    modules = {"a": Twice(), "b": Twice()}
    before = {name: module.inside.bias.detach().clone() for name, module in modules.items()}
    state = TrainState(modules, make_optimizers(modules, 1.0, 0.01, kind, {"b": 0.5}))
    for module in modules.values():
        for p in module.parameters():
            p.grad = torch.full_like(p, 1e-3)
    state.step(0, 0.2, most=10.0)
    moved = {name: (before[name] - module.inside.bias.detach()).mean().item() for name, module in modules.items()}
    assert moved == {"a": pytest.approx(0.2, rel=1e-3), "b": pytest.approx(0.1, rel=1e-3)}
    rates = {g["lr"] for optimizer in state.optimizers for g in optimizer.param_groups}
    assert rates == {0.2, 0.1}

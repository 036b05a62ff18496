"""Muon and AdamW as one optimizer: who takes what, one schedule, one checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from editr1.training.muon import KernelMuon, MuonAdamW, make_optimizers, split_parameters


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(5, 4)
        self.inner = nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.patches = nn.Conv2d(1, 4, 2)
        self.lm_head = nn.Linear(4, 5, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.lm_head(torch.relu(self.inner(self.embed_tokens(ids))))


@pytest.fixture
def tiny() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


def learn(model: nn.Module, optimizers, steps: int) -> None:
    ids = torch.tensor([0, 1, 2, 3])
    for _ in range(steps):
        nn.functional.cross_entropy(model(ids), ids).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def test_matrices_inside_go_to_muon_and_the_rest_to_adamw(tiny: Tiny) -> None:
    inner, outer = split_parameters(tiny)
    assert [id(p) for p in inner] == [id(tiny.inner.weight)]
    wanted = {tiny.embed_tokens.weight, tiny.inner.bias, tiny.patches.weight, tiny.patches.bias, tiny.lm_head.weight}
    assert {id(p) for p in outer} == {id(p) for p in wanted}


def test_as_one_it_does_what_the_two_do(tiny: Tiny) -> None:
    other = copy.deepcopy(tiny)
    learn(tiny, [MuonAdamW(tiny, 0.01, 0.1)], 5)
    learn(other, make_optimizers(other, 0.01, 0.1), 5)
    for name, value in tiny.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_schedule_moves_both_also_after_a_checkpoint_was_read(tiny: Tiny) -> None:
    optimizer = MuonAdamW(tiny, 1.0, 0.0)
    for _ in range(2):
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        learn(tiny, [optimizer], 1)
        schedule.step()
        assert [g["lr"] for part in optimizer.parts for g in part.param_groups] == [0.5, 0.5]
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def test_what_is_read_from_a_checkpoint_goes_on_as_before(tiny: Tiny) -> None:
    optimizer = MuonAdamW(tiny, 0.01, 0.1)
    learn(tiny, [optimizer], 3)
    twin = copy.deepcopy(tiny)
    read = MuonAdamW(twin, 0.5, 0.0)
    read.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    learn(tiny, [optimizer], 3)
    learn(twin, [read], 3)
    for name, value in tiny.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name


def test_a_closure_is_refused(tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="closure"):
        MuonAdamW(tiny, 0.01, 0.0).step(lambda: 0.0)


def test_a_kernel_moves_as_the_matrix_of_its_rows_does() -> None:
    """A convolution of whole 2x2 patches is a linear layer on them: the same data move both alike."""
    torch.manual_seed(0)
    kernel, linear = nn.Conv2d(3, 4, 2, stride=2, bias=False), nn.Linear(12, 4, bias=False)
    with torch.no_grad():
        linear.weight.copy_(kernel.weight.flatten(1))
    options = {"lr": 0.1, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    ours, theirs = KernelMuon([kernel.weight], **options), torch.optim.Muon([linear.weight], **options)
    before = kernel.weight.clone()
    for _ in range(3):
        patches = torch.randn(5, 3, 2, 2)
        kernel(patches).square().sum().backward()
        linear(patches.flatten(1)).square().sum().backward()
        for optimizer in (ours, theirs):
            optimizer.step()
            optimizer.zero_grad()
        assert kernel.weight.grad is None
    assert (kernel.weight - before).abs().max() > 0.01
    torch.testing.assert_close(kernel.weight.flatten(1), linear.weight)

"""Muon for the matrices of a model and AdamW for everything else, as one optimizer.

Small models learn the embedded domain in far fewer steps with it. Muon itself is PyTorch's; what is here decides who
takes which parameter, lets a trainer that knows one optimizer have both, and gives Muon the kernels of convolutions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

_BETAS = (0.9, 0.98)


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters that train: the matrices inside the model; and embeddings, output layer, norms, biases, patches."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    inner = [p for name, p in trained if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
    inside = {id(p) for p in inner}
    return inner, [p for _, p in trained if id(p) not in inside]


def make_optimizers(
    model: nn.Module, learning_rate: float, weight_decay: float
) -> tuple[torch.optim.Muon, torch.optim.AdamW]:
    """Both at one learning rate: Muon's updates are scaled to the size that AdamW's would have.

    Args:
        model: on its device; frozen parameters are left out.
        learning_rate: of both.
        weight_decay: of the matrices; the rest has none.
    """
    inner, outer = split_parameters(model)
    return (
        torch.optim.Muon(inner, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=learning_rate, weight_decay=0.0, betas=_BETAS),
    )


class KernelMuon(torch.optim.Muon):
    """PyTorch's Muon, which takes matrices alone, on kernels of convolutions too: one row for each output channel.

    The state belongs to matrices that share the kernels' memory: find a parameter's by `data_ptr()`.

    Args:
        params: contiguous, of two or more dimensions.
        options: those of `torch.optim.Muon`.
    """

    def __init__(self, params: Iterable[nn.Parameter], **options: Any) -> None:
        self._whole = list(params)
        self._matrices = [nn.Parameter(p.detach().view(len(p), -1)) for p in self._whole]
        super().__init__(self._matrices, **options)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of all parameters that have a gradient."""
        for matrix, whole in zip(self._matrices, self._whole, strict=True):
            matrix.grad = None if whole.grad is None else whole.grad.reshape(matrix.shape)
        return super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Of the kernels, and of the matrices that stand for them."""
        super().zero_grad(set_to_none)
        for whole in self._whole:
            if set_to_none:
                whole.grad = None
            elif whole.grad is not None:
                whole.grad.zero_()


class MuonAdamW(torch.optim.Optimizer):
    """Both behind the interface of one: a schedule moves both, a checkpoint holds both.

    Args:
        model, learning_rate, weight_decay: see `make_optimizers`.
    """

    def __init__(self, model: nn.Module, learning_rate: float, weight_decay: float) -> None:
        self.parts = make_optimizers(model, learning_rate, weight_decay)
        groups = [{"params": group["params"]} for part in self.parts for group in part.param_groups]
        super().__init__(groups, {"lr": learning_rate})
        self._share_groups()

    def _share_groups(self) -> None:
        """What a schedule writes into our groups is what the parts read."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        if closure is not None:
            raise ValueError("a closure is not supported: compute the loss first, then call step()")
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Those of the parts, by name."""
        return {type(part).__name__: part.state_dict() for part in self.parts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Of an optimizer of the same model."""
        for part in self.parts:
            part.load_state_dict(state_dict[type(part).__name__])
        self._share_groups()

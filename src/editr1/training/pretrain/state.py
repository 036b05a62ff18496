"""What a training of an embedded editor must not lose: weights, their average, the optimizers' moments, the step."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from editr1.rundir import RunDir
from editr1.training.muon import KernelMuon

_BETAS = (0.9, 0.98)


class Schedule(Protocol):
    """What a rate needs to know."""

    @property
    def steps(self) -> int: ...  # noqa: D102

    @property
    def warmup(self) -> int: ...  # noqa: D102

    @property
    def learning_rate(self) -> float: ...  # noqa: D102


def learning_rate(step: int, schedule: Schedule) -> float:
    """Linear warm-up, then a cosine down to a tenth of the peak.

    Args:
        step: from 0.
        schedule: steps, warmup and learning_rate, as `FlowRecipe` and `VaeRecipe` have them.
    """
    if step < schedule.warmup:
        return schedule.learning_rate * (step + 1) / schedule.warmup
    share = (step - schedule.warmup) / max(schedule.steps - schedule.warmup, 1)
    return schedule.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


def make_optimizers(
    modules: Mapping[str, nn.Module],
    learning_rate: float,
    weight_decay: float,
    kind: str = "adamw",
    rates: Mapping[str, float] | None = None,
) -> tuple[torch.optim.Optimizer, ...]:
    """AdamW for everything, or Muon for linear layers and convolutions, and AdamW for the rest.

    Matrices alone decay. Embeddings, and the linear layers that lead into a model and out of it, stay with AdamW.

    Args:
        modules: whose weights are trained, those that ask for gradients.
        learning_rate: to begin with; `TrainState.step` sets it anew each time.
        weight_decay: of matrices.
        kind: "adamw" or "muon".
        rates: by module, a share of the learning rate; 1 for those not named.
    """
    groups, made = list[dict[str, Any]](), list[torch.optim.Optimizer]()
    for name, whole in modules.items():
        inside = {id(p) for p in _inside(whole)} if kind == "muon" else set[int]()
        parts = dict[str, list[nn.Parameter]](inner=[], matrices=[], rest=[])
        for p in (p for p in whole.parameters() if p.requires_grad):
            parts["inner" if id(p) in inside else "matrices" if p.ndim > 1 else "rest"].append(p)
        share = (rates or {}).get(name, 1.0)
        group: dict[str, Any] = {SHARE: share, "lr": share * learning_rate}
        groups.append({"params": parts["matrices"], "weight_decay": weight_decay} | group)
        groups.append({"params": parts["rest"], "weight_decay": 0.0} | group)
        if parts["inner"]:
            made.append(KernelMuon(parts["inner"], weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
            made[-1].param_groups[0].update(group)
    groups = [group for group in groups if group["params"]]
    return (*made, torch.optim.AdamW(groups, lr=learning_rate, betas=_BETAS, fused=True))


def _inside(whole: nn.Module) -> Iterator[nn.Parameter]:
    """Kernels and matrices of the layers inside a model."""
    for name, module in whole.named_modules():
        layer = isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)
        if layer and "embed" not in name and name not in _OUTER:
            yield module.weight


SHARE = "share"
"""Of the learning rate, in an optimizer's groups."""

_OUTER = {"proj_out", "img_in", "txt_in", "lm_head"}


class TrainState:
    """Modules that train, their optimizers, and a moving average of the weights.

    Args:
        modules: by name.
        optimizers: of all their parameters.
        ema: decay of the average; None keeps none.

    Attributes:
        parameters: by "<module>.<name>"; weights that are tied come once.
        average: the moving average of each, if it is kept.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimizers: tuple[torch.optim.Optimizer, ...],
        ema: float | None = None,
    ) -> None:
        named = {f"{key}.{name}": p for key, module in modules.items() for name, p in module.named_parameters()}
        self.parameters: dict[str, nn.Parameter] = {name: p for name, p in named.items() if p.requires_grad}
        self.optimizers = optimizers
        self.ema = ema
        kept = self.parameters.items() if ema is not None else ()
        self.average: dict[str, Tensor] = {name: p.detach().clone() for name, p in kept}

    def step(self, number: int, rate: float, most: float) -> float:
        """One update from the gradients that are there; they are gone afterwards.

        Args:
            number: of the step, from 0.
            rate: learning rate.
            most: norm to which the gradient is cut.

        Returns:
            the norm that the gradient had. If it is not finite, weights and average stay as they are.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), most, foreach=True).item()
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * group.get(SHARE, 1.0)
                optimizer.step()
            if self.ema is not None:
                # a long memory of the first, random weights would be of no use
                decay = min(self.ema, (1 + number) / (10 + number))
                now = [p.detach() for p in self.parameters.values()]
                torch._foreach_lerp_(list(self.average.values()), now, 1 - decay)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return norm

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """While active, the modules have the averaged weights."""
        own = {name: p.data for name, p in self.parameters.items()}
        for name, value in self.average.items():
            self.parameters[name].data = value
        try:
            yield
        finally:
            for name, value in own.items():
                self.parameters[name].data = value

    def save(self, run: RunDir, step: int, keep: int) -> None:
        """Write a checkpoint, and delete all but the newest `keep`."""
        tensors = {f"model/{name}": p.detach().cpu() for name, p in self.parameters.items()}
        tensors |= {f"average/{name}": value.cpu() for name, value in self.average.items()}
        names = {p.data_ptr(): name for name, p in self.parameters.items()}
        for optimizer in self.optimizers:
            for p, state in optimizer.state.items():
                tensors |= {
                    f"{key}/{names[p.data_ptr()]}": torch.as_tensor(value).cpu() for key, value in state.items()
                }
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        run.save_checkpoint(step, lambda folder: save_file(contiguous, folder / "state.safetensors"))
        for old in sorted(run.checkpoints.glob("step-*"))[:-keep]:
            shutil.rmtree(old)

    def resume(self, run: RunDir, after: int) -> int:
        """Restore the last checkpoint, if there is one of more than `after` steps; the number of steps done."""
        latest = run.latest_checkpoint()
        if latest is None or latest[0] <= after:
            return after
        done, folder = latest
        owner = {p.data_ptr(): (o, p) for o in self.optimizers for group in o.param_groups for p in group["params"]}
        with safe_open(folder / "state.safetensors", "pt") as file:
            for entry in file.keys():  # noqa: SIM118 - the file cannot be iterated
                key, name = entry.split("/", 1)
                value, p = file.get_tensor(entry), self.parameters[name]
                if key == "model":
                    p.data.copy_(value)
                elif key == "average":
                    self.average[name].copy_(value)
                else:
                    optimizer, own = owner[p.data_ptr()]
                    optimizer.state[own][key] = value.to(p.device)
        return done

"""Checkpoints of editor RL: safetensors and JSON, whole tensors, for any number of processes to go on from."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from editr1.errors import DataError
from editr1.files import write_json
from editr1.rundir import RunDir
from editr1.training.editor.algorithm import REFERENCE
from editr1.training.editor.policy import Policy, local
from editr1.training.editor.rollouts import Gather

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        iteration: how many are done.
        started: whether the evaluation before the first one is done.
        skipped: iterations in a row whose gradient was not finite.
        best: step and reward of the best evaluation yet.
        guard: state of the `FailureGuard`.
    """

    iteration: int = 0
    started: bool = False
    skipped: int = 0
    best: tuple[int, float] | None = None
    guard: dict[str, Any] = field(default_factory=dict)


class Checkpoints:
    """Writes and reads the checkpoints of a run. All processes call it; the first one writes.

    What is drawn in a run depends on its seed, the iteration and nothing else; the state of torch's generators is kept
    for what a reward may draw.

    Args:
        run: the run directory.
        policy: the weights: trained, old and averaged ones. The reference is what the run began with, and is not kept.
        optimizer: AdamW on the trained ones.
        gather: a list of each process -> one of all.
        main: whether this process writes.
        keep: newest checkpoints that stay, beside that of the best evaluation.
    """

    def __init__(
        self, run: RunDir, policy: Policy, optimizer: torch.optim.Optimizer, gather: Gather, *, main: bool, keep: int
    ) -> None:
        self._run, self._policy, self._optimizer = run, policy, optimizer
        self._gather, self._main, self._keep = gather, main, keep

    def save(self, progress: Progress) -> None:
        """Write a checkpoint; `latest` is written last."""
        files = self._tensors()
        generators = self._gather([_generators()])
        if not self._main:
            self._gather([None])
            return
        files["generators"] = {f"{n}.{name}": t for n, found in enumerate(generators) for name, t in found.items()}

        def write(folder: Path) -> None:
            for name, tensors in files.items():
                save_file(tensors, folder / f"{name}.safetensors")
            write_json(folder / "state.json", asdict(progress))

        self._run.save_checkpoint(progress.iteration, write)
        self._prune(progress)
        self._gather([None])  # nobody goes on, or dies, before it is written

    def load(self, folder: Path, rank: int) -> Progress:
        """Restore everything from a checkpoint's folder.

        Raises:
            DataError: if it is of another kind of run.
        """
        weights = load_file(folder / "weights.safetensors")
        if weights.keys() != self._policy.parameters.keys():
            raise DataError(f"{folder} holds other weights than those that the recipe trains: choose another --out")
        self._load_weights(folder)
        moments = load_file(folder / "optimizer.safetensors")
        for name, parameter in self._policy.parameters.items():
            kept = {key: moments[f"{name}.{key}"] for key in _MOMENTS if f"{name}.{key}" in moments}
            if kept:
                self._optimizer.state[parameter] = {
                    key: value if key == "step" else _like(value, parameter) for key, value in kept.items()
                }
        generators = load_file(folder / "generators.safetensors")
        if f"{rank}.cpu" in generators:
            torch.set_rng_state(generators[f"{rank}.cpu"])
        if f"{rank}.cuda" in generators and torch.cuda.is_available():
            torch.cuda.set_rng_state(generators[f"{rank}.cuda"])
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return Progress(**state | {"best": None if state["best"] is None else tuple(state["best"])})

    def load_for_use(self, step: int) -> None:
        """Put the weights of a former step, its moving average if there is one, in the place of the trained ones."""
        self._load_weights(self._run.checkpoints / f"step-{step:06d}")

    def _load_weights(self, folder: Path) -> None:
        for name in ("weights", *self._kept_copies()):
            tensors = load_file(folder / f"{name}.safetensors")
            found = [local(_like(tensors[key], like)) for key, like in self._policy.parameters.items()]
            if name == "weights":
                self._policy.load(found)
            else:
                for kept, tensor in zip(self._policy.copies[name], found, strict=True):
                    kept.copy_(tensor)

    def _kept_copies(self) -> list[str]:
        return [name for name in self._policy.copies if name != REFERENCE]

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        """File name -> tensors, whole and on the CPU; gathering them takes all processes."""
        parameters = self._policy.parameters
        files = {"weights": {name: whole(parameter.detach()) for name, parameter in parameters.items()}}
        for copy in self._kept_copies():
            kept = zip(parameters.items(), self._policy.copies[copy], strict=True)
            files[copy] = {name: whole(_as_shard(tensor, like)) for (name, like), tensor in kept}
        moments = {name: self._optimizer.state.get(parameter, {}) for name, parameter in parameters.items()}
        files["optimizer"] = {f"{n}.{key}": whole(found[key]) for n, found in moments.items() for key in found}
        return files

    def _prune(self, progress: Progress) -> None:
        best = None if progress.best is None else f"step-{progress.best[0]:06d}"
        for old in sorted(self._run.checkpoints.glob("step-*"))[: -self._keep]:
            if old.name != best:
                shutil.rmtree(old)


def _generators() -> dict[str, Tensor]:
    found = {"cpu": torch.get_rng_state()}
    return found | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def whole(tensor: Tensor) -> Tensor:
    """On the CPU, without shards, sharing no memory with others: safetensors would refuse."""
    whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole.detach().cpu().clone().contiguous()


def _as_shard(shard: Tensor, like: Tensor) -> Tensor:
    """This process's part of a tensor that is sharded as another one is."""
    if not hasattr(like, "to_local"):
        return shard
    from torch.distributed.tensor import DTensor

    mesh, placements = cast(DTensor, like).device_mesh, cast(DTensor, like).placements
    return DTensor.from_local(shard, mesh, placements, run_check=False, shape=like.shape, stride=like.stride())


def _like(whole: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, on the device of another one and sharded as that is."""
    whole = whole.to(like.device, like.dtype)
    if not hasattr(like, "to_local"):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor

    return distribute_tensor(whole, cast(DTensor, like).device_mesh, cast(DTensor, like).placements)

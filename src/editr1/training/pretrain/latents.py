"""Second stage: the latents of sources and edits, and the tokens of instructions, encoded once into files.

A file holds some tasks and all their edits. It is written whole or not at all, so that an interrupted run encodes what
is missing; files are mapped into memory when they are read, and may together be larger than it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from editr1.editors.latents import pack
from editr1.errors import ConfigError
from editr1.files import write_atomic, write_json
from editr1.rundir import RunDir
from editr1.stickers.faults import RIGHT
from editr1.training.pretrain.data import MODES, EditMixture, TaskChunk, TaskChunks, draw
from editr1.training.pretrain.models import Trainee
from editr1.training.pretrain.recipe import EditorRecipe
from editr1.training.pretrain.vae import FOLDER as VAE_FOLDER
from editr1.training.pretrain.vae import Report, autocast, to_pixels

FOLDER = "latents"
"""In the run directory; `manifest.json` there says what they were made of."""

_AT_ONCE = 128
"""Pictures that go through the VAE together."""

_TASK_COLUMNS = ("source", "changed", "pixels")
"""Columns with a row for each task; likewise all that begin with TOKENS. The others have one for each edit."""

TOKENS = "tokens."


@dataclass(frozen=True, slots=True)
class Examples:
    """B edits to learn from; L tokens of C numbers.

    Attributes:
        edited, source: (B, L, C) float32, normalised latents, packed into tokens.
        changed: (B, L) bool, where a right edit differs from the source.
        modes: (B,) index into MODES.
        tokens: (B, T) int64 of each input of the text encoders, by name.
        pixels: (B, H, W, 3) uint8, the sources, for an editor whose text encoder sees them.
    """

    edited: Tensor
    source: Tensor
    changed: Tensor
    modes: Tensor
    tokens: dict[str, Tensor]
    pixels: Tensor | None

    def rows(self, rows: Tensor, device: torch.device | str = "cpu") -> Examples:
        """Some of them, by number."""
        return Examples(
            edited=self.edited[rows].to(device),
            source=self.source[rows].to(device),
            changed=self.changed[rows].to(device),
            modes=self.modes[rows].to(device),
            tokens={name: ids[rows].to(device) for name, ids in self.tokens.items()},
            pixels=None if self.pixels is None else self.pixels[rows].to(device),
        )


class LatentStore:
    """The files of a run, as one list of edits.

    Args:
        folder: that `encode_edits` filled.
        number: of edits.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._shards = [load_file(path) for path in sorted(folder.glob("shard-*.safetensors"))]  # mapped, not read
        sizes = [len(shard["modes"]) for shard in self._shards]
        self._starts = np.cumsum([0, *sizes])
        self.number = min(number, int(self._starts[-1]))

    def __len__(self) -> int:
        return self.number

    def rows(self, indices: Sequence[int] | npt.NDArray[np.int64], device: torch.device | str = "cpu") -> Examples:
        """Edits by number."""
        places = []
        for index in indices:
            number = int(np.searchsorted(self._starts, index, side="right")) - 1
            shard, row = self._shards[number], int(index - self._starts[number])
            per_task = len(shard["modes"]) // len(shard["source"])
            places.append((shard, row, row // per_task))

        def column(name: str) -> Tensor:
            of_task = name in _TASK_COLUMNS or name.startswith(TOKENS)
            return torch.stack([shard[name][task if of_task else row] for shard, row, task in places]).to(device)

        names = self._shards[0].keys()
        return Examples(
            edited=column("edited").float(),
            source=column("source").float(),
            changed=column("changed"),
            modes=column("modes").long(),
            tokens={name.removeprefix(TOKENS): column(name).long() for name in names if name.startswith(TOKENS)},
            pixels=column("pixels") if "pixels" in names else None,
        )

    def right(self) -> npt.NDArray[np.int64]:
        """The numbers of the right edits, in ascending order."""
        return (self._modes() == MODES.index(RIGHT)).nonzero().flatten().numpy()

    def _modes(self) -> Tensor:
        return torch.cat([shard["modes"] for shard in self._shards])[: self.number].long()

    def shares(self) -> dict[str, float]:
        """How often each of MODES occurs among all edits."""
        counts = torch.bincount(self._modes(), minlength=len(MODES)).tolist()
        return {name: count / self.number for name, count in zip(MODES, counts, strict=True)}


class Order:
    """Which edits a step takes: one permutation of all after another, each a function of seed and number.

    Args:
        number: of edits.
        batch_size: of them in a step.
        seed: of the order.
    """

    def __init__(self, number: int, batch_size: int, seed: int) -> None:
        self.number, self.batch_size, self.seed = number, batch_size, seed
        self._epochs: dict[int, npt.NDArray[np.int64]] = {}

    def __call__(self, step: int) -> npt.NDArray[np.int64]:
        """(batch_size,) numbers of edits for a step, from 0."""
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        return np.array([self._epoch(int(p) // self.number)[int(p) % self.number] for p in places])

    def _epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch not in self._epochs:
            self._epochs = {e: order for e, order in self._epochs.items() if e == epoch - 1}
            self._epochs[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.number)
        return self._epochs[epoch]


def encode_edits(trainee: Trainee, recipe: EditorRecipe, run: RunDir, report: Report | None = None) -> LatentStore:
    """Encode what is missing of the recipe's edits into `run/latents`.

    Args:
        trainee: whose autoencoder is finished.
        recipe: which edits.
        run: directory of the run.
        report: of progress, in edits.

    Raises:
        ConfigError: if the files there were made by another recipe or autoencoder.
    """
    folder = run.path / FOLDER
    folder.mkdir(exist_ok=True)
    _check_manifest(folder, recipe, run.path / VAE_FOLDER)
    data = TaskChunks(EditMixture(recipe.edits), recipe.edits.shard)
    paths = [folder / f"shard-{number:05d}.safetensors" for number in range(len(data))]
    missing = _Some(data, [number for number, path in enumerate(paths) if not path.is_file()])
    for done, chunk in enumerate(draw(missing, 0, recipe.workers), start=1):
        columns = encode_chunk(trainee, chunk, recipe.precision)
        write_atomic(paths[missing.numbers[done - 1]], save(columns))
        if report is not None:
            so_far = len(data) - len(missing) + done
            report("latents", so_far, len(data), {"edits": min(so_far * recipe.edits.shard, recipe.edits.tasks)})
    return LatentStore(folder, recipe.edits.number)


@torch.no_grad()
def encode_chunk(trainee: Trainee, chunk: TaskChunk, precision: str) -> dict[str, Tensor]:
    """The columns of a file: latents in float16, with two more bits of precision than bfloat16 would leave them."""
    tokens = trainee.tokenize(chunk.instructions)
    columns: dict[str, Any] = {
        "source": _latents(trainee, chunk.sources, precision),
        "edited": _latents(trainee, chunk.edited, precision),
        "changed": torch.from_numpy(chunk.changed),
        "modes": torch.from_numpy(chunk.modes),
    }
    columns |= {TOKENS + name: torch.from_numpy(ids) for name, ids in tokens.items()}
    if trainee.sees_source:
        columns["pixels"] = torch.from_numpy(chunk.sources)
    return columns


def _latents(trainee: Trainee, pictures: npt.NDArray[np.uint8], precision: str) -> Tensor:
    """(N, L, C) float16, normalised and packed."""
    parts = []
    for part in torch.from_numpy(pictures).split(_AT_ONCE):
        with autocast(trainee.device, precision):
            mean, _ = trainee.encode(to_pixels(part, trainee.device))
        parts.append(pack(trainee.normalise(mean.float())).half().cpu())
    return torch.cat(parts)


class _Some(TaskChunks):
    """The chunks of some numbers."""

    def __init__(self, chunks: TaskChunks, numbers: list[int]) -> None:
        super().__init__(chunks.mixture, chunks.size)
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> TaskChunk:
        return super().__getitem__(self.numbers[index])


def _check_manifest(folder: Path, recipe: EditorRecipe, vae: Path) -> None:
    made_of: Mapping[str, Any] = {
        "edits": recipe.edits.model_dump(mode="json"),
        "editor": recipe.editor,
        "texts": recipe.start or recipe.texts,  # where the tokenizers come from
        "vae": hashlib.sha256((vae / "diffusion_pytorch_model.safetensors").read_bytes()).hexdigest(),
    }
    path = folder / "manifest.json"
    if not path.exists():
        write_json(path, made_of)
    elif (found := json.loads(path.read_text(encoding="utf-8"))) != made_of:
        other = ", ".join(name for name in made_of if found.get(name) != made_of[name])
        raise ConfigError(
            f"the latents in {folder} were made with other settings ({other}): delete that folder, or name another "
            "run directory"
        )

"""How much of held-out edits an editor in training knows, noise level by noise level, without sampling a picture.

At a noise level of 1 it is shown nothing of the edit: what it then predicts comes from source and instruction, and the
sampler's first steps decide by it what the picture will be. Lower down the noisy edit itself tells more and more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from editr1.editors import PipelineEditor
from editr1.training.pretrain.data import EditMixture, TaskChunks
from editr1.training.pretrain.flow import editor_geometry, example_batch
from editr1.training.pretrain.latents import TOKENS, Examples, encode_chunk
from editr1.training.pretrain.models import Trainee
from editr1.training.pretrain.recipe import EditorRecipe
from editr1.types import EditKind

LEVELS = (1.0, 0.9, 0.7, 0.4)
"""Of noise."""

_AT_ONCE = 64


class HeldOutEdits:
    """Right edits of held-out tasks, encoded, with noise that is always the same.

    Args:
        trainee: whose autoencoder is finished.
        recipe: `held_out.split` and `held_out.per_kind` say which tasks, and how many for each kind on average.
    """

    def __init__(self, trainee: Trainee, recipe: EditorRecipe) -> None:
        number = recipe.held_out.per_kind * len(EditKind)
        edits = {"number": number, "per_task": 1, "right": 1.0, "split": recipe.held_out.split}
        mixture = EditMixture(recipe.edits.model_copy(update=edits))
        columns = encode_chunk(trainee, TaskChunks(mixture, number)[0], recipe.precision)
        self.trainee = trainee
        self.examples = Examples(
            edited=columns["edited"].float(),
            source=columns["source"].float(),
            changed=columns["changed"],
            modes=columns["modes"].long(),
            tokens={n.removeprefix(TOKENS): c.long() for n, c in columns.items() if n.startswith(TOKENS)},
            pixels=columns.get("pixels"),
        )
        generator = torch.Generator().manual_seed(recipe.seed)
        self.noise = torch.randn(self.examples.edited.shape, generator=generator)

    @torch.no_grad()
    def measure(self, editor: PipelineEditor) -> dict[str, float]:
        """For each level: shares of what is to be known, 1 if all is, 0 or less if nothing.

        Args:
            editor: on the trainee's pipeline.

        Returns:
            explained/<level>: of the difference between source and edit, over tokens that the edit changes;
            copied/<level>: of the source's variance about 0, over the others.
        """
        examples, found = self.examples, dict[str, float]()
        for level in LEVELS:
            batches = torch.arange(len(self.noise)).split(_AT_ONCE)
            made = torch.cat([self._predicted(editor, rows, level) for rows in batches])
            shares = explained(made, examples.edited, examples.source, examples.changed)
            found |= {f"explained/{level:g}": shares[0], f"copied/{level:g}": shares[1]}
        return found

    def _predicted(self, editor: PipelineEditor, rows: Tensor, level: float) -> Tensor:
        """The edits that the velocity points to, x - sigma v."""
        device = self.trainee.device
        some = self.examples.rows(rows, device)
        mixed = (1 - level) * some.edited + level * self.noise[rows].to(device)
        batch = example_batch(self.trainee, some, editor_geometry(editor))
        sigmas = torch.full((len(rows),), level, device=device)
        return (mixed - level * editor.velocity(mixed, sigmas, batch)).float().cpu()


def explained(made: Tensor, edited: Tensor, source: Tensor, changed: Tensor) -> tuple[float, float]:
    """1 - |made - edited|^2 / |source - edited|^2 over changed tokens; 1 - |made - edited|^2 / |edited|^2 elsewhere.

    Args:
        made: (B, L, C), the prediction.
        edited: likewise, a right edit.
        source: likewise.
        changed: (B, L) bool.

    Returns:
        both shares; NaN where there is no such token.
    """
    off, whole, length = ((a.square().sum(-1)) for a in (made - edited, source - edited, edited))
    return (
        1 - (off[changed].sum() / whole[changed].sum()).item(),
        1 - (off[~changed].sum() / length[~changed].sum()).item(),
    )

"""DiffusionNFT: finished pictures are noised anew, and good ones pulled, bad ones pushed (arXiv 2509.16117)."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import torch
from torch import Tensor

from editr1.editors.base import Editor
from editr1.editors.sampling import Rollout
from editr1.errors import ConfigError
from editr1.objectives.nft import nft_loss, noised, optimality
from editr1.training.editor.algorithm import CURRENT, OLD, REFERENCE, Draw, Metrics, Part, Prediction
from editr1.training.editor.contexts import derive_seed
from editr1.training.editor.recipe import EditorRecipe


class Nft:
    """See `Algorithm`. Rollouts are those of the ODE: pictures of a group differ by their first noise alone.

    The noise levels at which a picture is learnt from are those of the sampler's own schedule, drawn without repetition
    from the picture's seed; so is the noise. Both are the same however many processes there are.

    Raises:
        ConfigError: if a picture is to be noised at more levels than there are.
    """

    def __init__(self, recipe: EditorRecipe, steps: int) -> None:
        self._settings = recipe.nft
        follows = recipe.nft.old_rate > 0
        self.sampled_by = OLD if follows else CURRENT
        # An old policy that is the trained one itself needs no forward of its own before the first update.
        self.frozen = ((self.sampled_by,) if follows or recipe.updates > 1 else ()) + (
            (REFERENCE,) if recipe.nft.kl else ()
        )
        self.parts_per_picture = recipe.nft.draws
        if recipe.nft.draws > steps:
            raise ConfigError(f"nft.draws is {recipe.nft.draws}, and there are {steps} sampling steps: take no more")

    def draw(self, iteration: int) -> Draw:
        """The ODE."""
        return Draw(0.0, None)

    def old_decay(self, iteration: int) -> float:
        """Follows at once in the beginning, and more slowly later."""
        return min(self._settings.old_rate * iteration, self._settings.old_most)

    def parts(self, rollout: Rollout, advantages: Tensor) -> Iterator[Part]:
        """One for each draw of noise; every picture has a noise level of its own."""
        device, shape = advantages.device, rollout.final.shape[1:]
        levels = [Random(f"nft/{seed}").sample(range(rollout.steps), self._settings.draws) for seed in rollout.seeds]
        for draw in range(self._settings.draws):
            sigma = torch.stack([rollout.sigmas[chosen[draw]] for chosen in levels]).to(device)
            generators = [torch.Generator().manual_seed(derive_seed("nft", seed, draw)) for seed in rollout.seeds]
            noise = torch.stack([torch.randn(shape, generator=one) for one in generators]).to(device)
            yield Part(rollout, advantages, draw, sigma, noise)

    def predict(self, editor: Editor, part: Part) -> Prediction:
        """The velocity at the noised pictures."""
        assert part.noise is not None
        assert part.sigma is not None
        state, _ = noised(part.rollout.final, part.noise, part.sigma)
        return {"velocity": editor.velocity(state, part.sigma, editor.batch(part.rollout.contexts))}

    def loss(self, prediction: Prediction, part: Part) -> tuple[Tensor, Metrics]:
        """DiffusionNFT's loss, and the weight of the KL times the squared difference from the reference's velocity."""
        assert part.noise is not None
        assert part.sigma is not None
        settings, velocity = self._settings, prediction["velocity"]
        old = part.anchors[self.sampled_by]["velocity"] if self.sampled_by in part.anchors else velocity.detach()
        loss, metrics = nft_loss(
            velocity,
            old,
            noised(part.rollout.final, part.noise, part.sigma)[1],
            optimality(part.advantages, settings.clamp),
            beta=settings.beta,
            weighting=settings.weighting,
            sigma=part.sigma,
        )
        del metrics["unscored"]  # never here: only pictures with a score are learnt from
        if settings.kl:
            kl = (velocity - part.anchors[REFERENCE]["velocity"]).square().mean()
            loss = loss + settings.kl * kl
            metrics["kl"] = kl.detach()
        return loss, metrics

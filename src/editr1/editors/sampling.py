"""Rollouts: from noise to pictures, with what training needs to go through the steps again.

`sample` and `replay` call the same `Editor.velocity` and the same `sde_step`; latents and log-probabilities stay
float32 in between, whatever the model's precision. So for unchanged weights a replay gives the log-probability of the
rollout to the last bit, provided that the batch is the same: other batch sizes may take other kernels (see `rescore`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from editr1.editors.base import Editor
from editr1.editors.context import Context, Geometry
from editr1.objectives.flow_sde import Kind, SdeStep, sde_step
from editr1.objectives.windows import Window, all_steps


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """A batch of samples of one geometry, and the steps of their trajectories that were stochastic.

    Attributes:
        positions: where in the request each sample stood.
        contexts: of each sample; for a group, one context many times over.
        seeds: of each sample, for its first latent and the noise of its steps.
        sigmas: (steps + 1,) float32, on the CPU.
        window: the stochastic steps, in order; empty for the ODE.
        noise_level: eta in those steps.
        kind: of those steps, "sde" or "cps".
        states: index into sigmas -> latents there, (B, L, C) float32: before and after each step of the window, and
            the last, at sigma 0.
        log_probs: step of the window -> (B,) float32, as `SdeStep.log_prob`.
        images: decoded pictures, unless they were not asked for.
    """

    positions: tuple[int, ...]
    contexts: tuple[Context, ...]
    seeds: tuple[int, ...]
    sigmas: Tensor
    window: Window
    noise_level: float
    kind: Kind
    states: Mapping[int, Tensor]
    log_probs: Mapping[int, Tensor]
    images: tuple[Image.Image, ...] = ()

    @property
    def steps(self) -> int:
        """Of the sampler."""
        return len(self.sigmas) - 1

    @property
    def final(self) -> Tensor:
        """(B, L, C): the latents of the finished pictures, x0."""
        return self.states[self.steps]

    @property
    def geometry(self) -> Geometry:
        """Of all its samples."""
        return self.contexts[0].geometry

    def select(self, rows: Sequence[int]) -> Rollout:
        """Some of the samples, e.g. those whose group can teach something."""
        index = torch.as_tensor(list(rows), dtype=torch.long)

        def some(tensor: Tensor) -> Tensor:
            return tensor[index.to(tensor.device)]

        return replace(
            self,
            positions=tuple(self.positions[row] for row in rows),
            contexts=tuple(self.contexts[row] for row in rows),
            seeds=tuple(self.seeds[row] for row in rows),
            states={step: some(state) for step, state in self.states.items()},
            log_probs={step: some(values) for step, values in self.log_probs.items()},
            images=tuple(self.images[row] for row in rows) if self.images else (),
        )


def sample(
    editor: Editor,
    contexts: Sequence[Context],
    seeds: Sequence[int],
    steps: int | None = None,
    *,
    noise_level: float = 0.0,
    window: Window | None = None,
    kind: Kind = "sde",
    batch_size: int = 8,
    decode: bool = True,
) -> Iterator[Rollout]:
    """One sample for each context and its seed, batch by batch, so that the first can be scored while the next run.

    A sample's noise comes from its own seed, on the CPU: it does not depend on its batch, nor on the device.
    Contexts of different sizes may be mixed; a batch holds one size.

    Args:
        editor: to sample from; no gradient is kept.
        contexts: one for each sample: for groups of G, each context G times.
        seeds: one for each sample.
        steps: of the sampler; the editor's own number if None.
        noise_level: eta of the stochastic steps; 0 is the ODE, i.e. the pipeline's own sampler.
        window: which steps are stochastic (see `editr1.objectives.windows`); None is all but the last.
        kind: of the stochastic steps, "sde" or "cps".
        batch_size: samples in a batch, at most.
        decode: whether to make pictures.

    Raises:
        ValueError: if there are not as many seeds as contexts, or for a window that does not fit; at once, not
            when the first batch is asked for.
    """
    steps = editor.steps if steps is None else steps
    if len(seeds) != len(contexts):
        raise ValueError(f"{len(seeds)} seeds for {len(contexts)} contexts: give one for each sample")
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps is {steps} and batch_size {batch_size}: both are 1 or more")
    stochastic = _window(steps, noise_level, window)

    def batches() -> Iterator[Rollout]:
        for chosen in group_by_geometry([context.geometry for context in contexts], batch_size):
            rollout = _roll(
                editor, [contexts[i] for i in chosen], [seeds[i] for i in chosen], steps, noise_level, stochastic, kind
            )
            images = editor.decode(rollout.final, rollout.geometry) if decode else ()
            yield replace(rollout, positions=tuple(chosen), images=tuple(images))

    return batches()


def sample_images(
    editor: Editor, contexts: Sequence[Context], seeds: Sequence[int], steps: int | None = None, *, batch_size: int = 8
) -> list[Image.Image]:
    """The pictures of the ODE, in the order of the request."""
    found: dict[int, Image.Image] = {}
    for rollout in sample(editor, contexts, seeds, steps, batch_size=batch_size):
        found.update(zip(rollout.positions, rollout.images, strict=True))
    return [found[position] for position in range(len(contexts))]


def replay(editor: Editor, rollout: Rollout, step: int) -> SdeStep:
    """Go through a stochastic step again, with the weights as they are now and with their gradient.

    Its `log_prob` minus `rollout.log_probs[step]` is the log-ratio of policies; its `mean`, against that of another
    replay with the adapter switched off, gives the KL to the reference (`editr1.objectives.gaussian_kl`).

    Args:
        editor: whose weights are asked.
        rollout: a batch; as a whole it replays exactly.
        step: one of its window.

    Raises:
        ValueError: if the step is not one of the window.
    """
    if step not in rollout.window:
        raise ValueError(f"step {step} was not stochastic: replay one of {list(rollout.window)}")
    state, batch = rollout.states[step], editor.batch(rollout.contexts)
    velocity = editor.velocity(state, rollout.sigmas[step], batch)
    return _step(rollout, step, velocity, state, rollout.states[step + 1])


def rescore(editor: Editor, rollout: Rollout) -> Rollout:
    """The rollout with log-probabilities as the weights and kernels of now give them.

    For half precision and a part of a batch: what `select` leaves may take other kernels than the whole did, and
    log-ratios of unchanged weights are then of the order of 1e-3, more than the usual clip range. Call this before the
    first update; it costs a forward for each step of the window.
    """
    with torch.no_grad():
        return replace(rollout, log_probs={step: replay(editor, rollout, step).log_prob for step in rollout.window})


def group_by_geometry(geometries: Sequence[Geometry], most: int) -> list[list[int]]:
    """Positions in batches of one geometry and at most so many, in the order in which each geometry first comes."""
    groups: dict[Geometry, list[int]] = {}
    for position, geometry in enumerate(geometries):
        groups.setdefault(geometry, []).append(position)
    return [group[start : start + most] for group in groups.values() for start in range(0, len(group), most)]


@torch.no_grad()  # not inference_mode: what is sampled here is an input of training
def _roll(
    editor: Editor,
    contexts: Sequence[Context],
    seeds: Sequence[int],
    steps: int,
    noise_level: float,
    window: Window,
    kind: Kind,
) -> Rollout:
    geometry = contexts[0].geometry
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    sigmas = editor.sigmas(steps, geometry)
    rollout = Rollout((), tuple(contexts), tuple(seeds), sigmas, window, noise_level, kind, {}, {})
    kept = {*window, *(step + 1 for step in window), steps}
    states, log_probs = {}, {}
    latents, batch = editor.noise(geometry, generators), editor.batch(contexts)
    for step in range(steps):
        if step in kept:
            states[step] = latents
        velocity = editor.velocity(latents, sigmas[step], batch)
        done = _step(rollout, step, velocity, latents, None, generators)
        latents = done.prev_sample
        if step in window:
            log_probs[step] = done.log_prob
    states[steps] = latents
    return replace(rollout, states=states, log_probs=log_probs)


def _step(
    rollout: Rollout,
    step: int,
    velocity: Tensor,
    latents: Tensor,
    drawn: Tensor | None,
    generators: Sequence[torch.Generator] | None = None,
) -> SdeStep:
    """The same arithmetic for drawing and for scoring."""
    return sde_step(
        velocity,
        latents,
        rollout.sigmas[step],
        rollout.sigmas[step + 1],
        noise_level=rollout.noise_level if step in rollout.window else 0.0,
        prev_sample=drawn,
        generator=generators,
        kind=rollout.kind,
    )


def _window(steps: int, noise_level: float, window: Window | None) -> Window:
    if noise_level == 0:
        if window:
            raise ValueError(f"the window {list(window)} is to be stochastic at noise level 0: give a higher one")
        return ()
    if window is None:
        return all_steps(steps)
    if list(window) != sorted(set(window)) or (window and not 0 <= window[0] <= window[-1] < steps - 1):
        raise ValueError(
            f"the window {list(window)} does not fit {steps} steps: give rising indices from 0 to {steps - 2}; "
            "the last step is always deterministic, for its noise would stay in the picture"
        )
    return window

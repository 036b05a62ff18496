"""Flow-GRPO: the clipped surrogate over the stochastic steps of the sampler (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from editr1.editors.base import Editor
from editr1.editors.sampling import Rollout, replay
from editr1.errors import ConfigError
from editr1.objectives.guard import guarded_log_ratio, step_weight
from editr1.objectives.kl import gaussian_kl
from editr1.objectives.policy_gradient import clipped_surrogate
from editr1.objectives.windows import WINDOWS, Window
from editr1.training.editor.algorithm import CURRENT, REFERENCE, Draw, Metrics, Part, Prediction
from editr1.training.editor.recipe import EditorRecipe


class FlowGrpo:
    """See `Algorithm`.

    The ratio's denominator is the step's log-probability before the iteration's first update, at the very micro-batch
    that is trained on: in the first update that is the prediction itself, without its gradient, and the ratio is
    exactly 1. What the rollout said, in a batch of another size, may differ in the last bits of the forward's
    precision; the metric `replay_gap` is that difference. If it is not small, rollout and replay are two functions.

    Raises:
        ConfigError: if the window does not fit the steps.
    """

    sampled_by = CURRENT

    def __init__(self, recipe: EditorRecipe, steps: int) -> None:
        self._settings = recipe.grpo
        self._steps, self._seed = steps, recipe.seed
        self.frozen = ((REFERENCE,) if recipe.grpo.kl else ()) + ((CURRENT,) if recipe.updates > 1 else ())
        try:
            self.parts_per_picture = len(self._window(0))
        except ValueError as exc:
            raise ConfigError(f"grpo.window: {exc}") from exc

    def draw(self, iteration: int) -> Draw:
        """One window for all groups and processes."""
        return Draw(self._settings.noise_level, self._window(iteration), self._settings.step)

    def old_decay(self, iteration: int) -> float:
        """Nothing follows."""
        return 0.0

    def parts(self, rollout: Rollout, advantages: Tensor) -> Iterator[Part]:
        """One for each stochastic step."""
        for step in rollout.window:
            yield Part(rollout, advantages, step)

    def predict(self, editor: Editor, part: Part) -> Prediction:
        """The step as the weights have it: log_prob (B,), mean (B, L, C), std (B,)."""
        done = replay(editor, part.rollout, part.step)
        return {"log_prob": done.log_prob, "mean": done.mean, "std": done.std}

    def loss(self, prediction: Prediction, part: Part) -> tuple[Tensor, Metrics]:
        """The negated surrogate, and beta times the KL to the reference."""
        settings, rollout = self._settings, part.rollout
        old = part.anchors.get(CURRENT) or {name: value.detach() for name, value in prediction.items()}
        dt = (rollout.sigmas[part.step + 1] - rollout.sigmas[part.step]).to(part.advantages.device)
        advantages = part.advantages
        if settings.guard:
            drawn = rollout.states[part.step + 1]
            log_ratio = guarded_log_ratio(drawn, prediction["mean"], old["mean"], prediction["std"])
            advantages = advantages * step_weight(dt)
        else:
            log_ratio = prediction["log_prob"] - old["log_prob"]
        loss, metrics = clipped_surrogate(log_ratio, advantages, settings.clip)
        with torch.no_grad():
            metrics["ratio_off"] = log_ratio.expm1().abs().mean()
            metrics["replay_gap"] = (old["log_prob"] - rollout.log_probs[part.step]).abs().mean()
        if settings.kl:
            mean = part.anchors[REFERENCE]["mean"]
            kl = gaussian_kl(prediction["mean"], mean, prediction["std"], dt, settings.kl_form).mean()
            loss = loss + settings.kl * kl
            metrics["kl"] = kl.detach()
        return loss, metrics

    def _window(self, iteration: int) -> Window:
        window, steps = self._settings.window, self._steps
        if window.kind == "all":
            return WINDOWS["all"](steps)
        make: Callable[..., Window] = WINDOWS[window.kind]
        options: dict[str, dict[str, Any]] = {
            "fixed": {"start": window.start},
            "sliding": {"iteration": iteration, "every": window.every, "stride": window.stride},
            "random": {"iteration": iteration, "seed": self._seed, "low": window.low, "high": window.high},
        }
        return make(steps, window.size, **options[window.kind])

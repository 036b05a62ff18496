"""Flow-GRPO of FLUX.1-Kontext as one would first write it: the other side of `benchmarks/editor_rl.py`.

Only what has to be equal is editr1's own: contexts and their order, seeds, and the settings of pipeline and loss. All
arithmetic is written out here, and `benchmarks/editor_rl.py --check` holds it against the trainer's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parts.editor_sides import Bench
    from PIL import Image
    from torch import Tensor

    from editr1.rewards import Reward
    from editr1.training.editor.rollouts import Seconds
    from editr1.types import EditTask


@dataclass
class Trajectory:
    """Some pictures of one context as the straightforward side keeps them.

    Attributes:
        conditions: arguments of the transformer.
        reference: (B, R, C) latents of the source.
        times: of the scheduler, one a step; sigmas: one more, the last 0.
        states: latents before each step and after the last; log_probs: (B,) of each step but the last.
    """

    conditions: dict[str, Any]
    reference: Tensor
    times: Tensor
    sigmas: Tensor
    states: list[Tensor]
    log_probs: list[Tensor]


class Plain:
    """The straightforward loop.

    Args:
        bench: of which it takes the pipeline, the LoRA, the contexts, and the settings.
        reward: asked for one picture at a time.
        batch: pictures of one context that go through the pipeline, and through training, together.
    """

    def __init__(self, bench: Bench, reward: Reward, batch: int) -> None:
        self.bench, self.batch = bench, batch
        self.reward = reward
        self.pipe: Any = bench.editor.pipeline
        self.parameters = list(bench.policy.parameters.values())
        self.optimizer = bench.make_optimizer(self.parameters)

    def step(self, iteration: int) -> Seconds:
        """Sample, score and learn, one after the other."""
        import torch

        from editr1.rewards import EditSample
        from editr1.training.editor.contexts import derive_seed
        from editr1.training.editor.rollouts import Seconds

        recipe, seconds = self.bench.recipe, Seconds()
        trajectories, rewards = [], []
        for slot, task in enumerate(self.bench.tasks(iteration)):
            for first in range(0, recipe.group_size, self.batch):
                numbers = range(first, min(first + self.batch, recipe.group_size))
                with seconds.measure("sampling"):
                    seeds = [derive_seed(recipe.seed, iteration, slot, number) for number in numbers]
                    trajectory, images = self.sample(task, seeds)
                    trajectories.append(trajectory)
                with seconds.measure("scoring"):
                    for number, image in zip(numbers, images, strict=True):
                        sample = EditSample(task, image, f"{task.id}@{iteration + 1}.{number}")
                        rewards.append(self.reward.score([sample])[0].value)
        with seconds.measure("training"):
            self.learn(trajectories, torch.tensor(rewards).reshape(-1, recipe.group_size))
        return seconds

    def sample(self, task: EditTask, seeds: Sequence[int]) -> tuple[Trajectory, list[Image.Image]]:
        """What `FluxKontextPipeline.__call__` does, with stochastic steps."""
        import torch
        from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift, retrieve_timesteps

        pipe, config = self.pipe, self.pipe.scheduler.config
        given, device, count = self.bench.editor.pipeline_arguments(task), self.bench.editor.device, len(seeds)
        steps = self.bench.recipe.sampling.steps
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        with torch.no_grad():
            prompt, pooled, text_ids = pipe.encode_prompt(
                prompt=[task.instruction] * count,
                prompt_2=None,
                device=device,
                max_sequence_length=given["max_sequence_length"],
            )
            pixels = pipe.image_processor.preprocess(given["image"])
            channels = pipe.transformer.config.in_channels // 4
            size = given["height"], given["width"]
            latents, reference, ids, reference_ids = pipe.prepare_latents(
                pixels, count, channels, *size, prompt.dtype, device, generators
            )
            mu = calculate_shift(
                latents.shape[1],
                config.get("base_image_seq_len", 256),
                config.get("max_image_seq_len", 4096),
                config.get("base_shift", 0.5),
                config.get("max_shift", 1.15),
            )
            evenly = torch.linspace(1.0, 1 / steps, steps, dtype=torch.float64).numpy()
            times, _ = retrieve_timesteps(pipe.scheduler, steps, device, sigmas=evenly, mu=mu)
            guidance = None
            if pipe.transformer.config.guidance_embeds:
                guidance = torch.full([count], given["guidance_scale"] or 0.0, device=device, dtype=torch.float32)
            conditions = {
                "guidance": guidance,
                "pooled_projections": pooled,
                "encoder_hidden_states": prompt,
                "txt_ids": text_ids,
                "img_ids": torch.cat([ids, reference_ids]),
            }
            sigmas = torch.as_tensor(pipe.scheduler.sigmas, dtype=torch.float32).to(device)
            made = Trajectory(conditions, reference, times, sigmas, [latents.float()], [])
            for step in range(steps):
                self._advance(made, step, generators)
            return made, self._decode(made.states[-1], size)

    def _advance(self, made: Trajectory, step: int, generators: list[Any]) -> None:
        import torch

        latents = made.states[-1]
        if step == len(made.times) - 1:  # noise of the last step would stay in the picture
            dt = made.sigmas[step + 1] - made.sigmas[step]
            made.states.append(latents + dt * self.velocity(made, step))
            return
        mean, deviation = self.policy(made, step)
        noise = torch.stack([torch.randn(latents.shape[1:], generator=one) for one in generators])
        made.states.append(mean + deviation * noise.to(mean.device))
        made.log_probs.append(log_prob(made.states[-1], mean, deviation))

    def velocity(self, made: Trajectory, step: int) -> Tensor:
        """The transformer's output at a step, for the tokens of the edited picture."""
        import torch

        latents, reference, autocast = made.states[step], made.reference, self.bench.editor.autocast
        dtype = reference.dtype
        with nullcontext() if autocast is None else torch.autocast(latents.device.type, autocast):
            output = self.pipe.transformer(
                hidden_states=torch.cat([latents.to(dtype), reference], dim=1),
                timestep=made.times[step].expand(len(latents)).to(dtype) / 1000,
                return_dict=False,
                **made.conditions,
            )[0]
        velocity: Tensor = output[:, : latents.shape[1]].float()
        return velocity

    def policy(self, made: Trajectory, step: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation of a stochastic step of Flow-GRPO."""
        x, v = made.states[step], self.velocity(made, step)
        sigma, following = made.sigmas[step], made.sigmas[step + 1]
        dt = following - sigma
        s = self.bench.recipe.grpo.noise_level * (sigma / (1 - (following if sigma == 1 else sigma))).sqrt()
        mean = x * (1 + s**2 / (2 * sigma) * dt) + v * (1 + s**2 * (1 - sigma) / (2 * sigma)) * dt
        return mean, s * (-dt).sqrt()

    def _decode(self, latents: Tensor, size: tuple[int, int]) -> list[Image.Image]:
        pipe, config = self.pipe, self.pipe.vae.config
        spread = pipe._unpack_latents(latents, *size, pipe.vae_scale_factor).to(pipe.vae.dtype)
        pixels = pipe.vae.decode(spread / config.scaling_factor + config.shift_factor, return_dict=False)[0]
        images: list[Image.Image] = pipe.image_processor.postprocess(pixels, output_type="pil")
        return images

    def learn(self, trajectories: Sequence[Trajectory], rewards: Tensor) -> None:
        """The clipped surrogate over all pictures and stochastic steps, rewards (contexts, G); one optimizer step."""
        import torch

        recipe = self.bench.recipe
        deviation = rewards.std(dim=1, keepdim=True, unbiased=False)
        advantages = (rewards - rewards.mean(dim=1, keepdim=True)) / (deviation + 1e-4)
        advantages = advantages.clamp(-recipe.advantages.clamp, recipe.advantages.clamp).flatten()
        done = 0
        for made in trajectories:
            count = len(made.states[0])
            advantage = advantages[done : done + count].to(made.reference.device)
            done += count
            for step, old in enumerate(made.log_probs):
                ratio = (log_prob(made.states[step + 1], *self.policy(made, step)) - old).exp()
                clipped = ratio.clamp(1 - recipe.grpo.clip, 1 + recipe.grpo.clip)
                loss = -torch.minimum(advantage * ratio, advantage * clipped).sum()
                (loss / (len(advantages) * len(made.log_probs))).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, recipe.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def log_prob(value: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Of a normal distribution, (B,): the mean over the elements of each picture."""
    import torch

    return torch.distributions.Normal(mean, deviation).log_prob(value.detach()).flatten(1).mean(dim=1)

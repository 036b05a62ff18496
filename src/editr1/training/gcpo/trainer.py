"""GCPO on TRL's GRPO (section 3 of the paper; `docs/method.md` has the equations).

What is ours, and all there is here: pairs stay whole, the rewards of a half come from the other half, a verdict is read
by the verifier's own parser, and what the rollouts of a group share is computed once. Advantages, loss, KL, clipping,
optimisation and the rest are TRL's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

from editr1.errors import ConfigError, VerdictParseError
from editr1.objectives import gcpo_advantages, gcpo_metrics, weighted_advantage, win_loss_ratios
from editr1.training.gcpo.data import PairSampler
from editr1.training.gcpo.rollouts import CheckedVllm, SharedRollouts, draw_seed, why_no_engine
from editr1.training.gcpo.shared_prefix import group_rows, share, share_prefixes, why_not_shared
from editr1.types import Principle
from editr1.verifier.parse import parse_verdict

ReadScore = Callable[[str, Sequence[Principle], bool], tuple[float, str]]
"""(answer, principles, whether it was cut off) -> score, NaN for none, and the reasoning."""

REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "auto_find_batch_size": ((False,), "a smaller batch would tear pairs apart"),
    "eval_strategy": (("no",), "TRL would score halves without their pairs: held-out pairs are measured by eval_every"),
    "remove_unused_columns": ((False,), "the principles, which verdicts are read by, are a column"),
    "use_transformers_continuous_batching": ((False,), "it takes no pictures"),
    "use_transformers_paged": ((False,), "it takes no pictures"),
    "max_tool_calling_iterations": ((None,), "a verdict is one turn: there are no tools"),
}
"""Settings of TRL that cannot be had, the values that are fine, and why the others are not."""


def read_score(text: str, principles: Sequence[Principle], truncated: bool) -> tuple[float, str]:
    """A rollout's score by the verifier's strict parser; NaN, with the whole text as reasoning, if it holds none."""
    try:
        verdict = parse_verdict(text, principles, truncated=truncated)
    except VerdictParseError:
        return float("nan"), text
    return float(verdict.score or 0.0), verdict.reasoning


class GCPOTrainer(GRPOTrainer):
    """GRPO whose groups come in pairs.

    Args:
        model: an image-text-to-text model.
        args: TRL's settings; `REFUSED` says which cannot be had.
        halves: `Halves.dataset()`: row 2p is the preferred half of pair p, row 2p + 1 the other.
        processing_class: the model's processor.
        read: reads a score from an answer.
        engine: "auto", "fast" (the shared-prefix engine, or an error) or "generate" (TRL's own path). Not looked at
            where `args.use_vllm` is set.
        share_prefix: encode each prompt once in the training forward, where the model allows it.
        extra_rewards: reward functions in TRL's form, added to the ratios with `args.reward_weights`.
        **kwargs: as for `GRPOTrainer`, e.g. `peft_config`, `callbacks`.

    Raises:
        ConfigError: for settings that would tear pairs apart, or that cannot be had.
    """

    _tag_names = ["trl", "grpo", "gcpo"]  # noqa: RUF012 - as TRL declares it
    _name = "GCPO"

    # As they are once the trainer is made.
    args: Any
    model: Any
    train_dataset: Any
    num_generations: int
    shuffle_dataset: bool
    _buffered_inputs: Any
    vllm_generation: Any

    def __init__(
        self,
        model: Any,
        args: GRPOConfig,
        halves: Dataset,
        *,
        processing_class: Any,
        read: ReadScore = read_score,
        engine: str = "auto",
        share_prefix: bool = True,
        extra_rewards: Sequence[Callable[..., list[float]]] = (),
        **kwargs: Any,
    ) -> None:
        check_settings(args, halves, kwargs)
        self._read = read
        self._groups: Tensor | None = None
        self._idle: Tensor | None = None
        self.last_rollouts: list[dict[str, Any]] = []
        self._reasoning_tokens: list[int] = []
        self._texts: list[str] = []
        rewards: list[Any] = [self.win_loss_ratio, *extra_rewards]
        super().__init__(
            model=model,
            reward_funcs=rewards,
            args=args,
            train_dataset=halves,
            processing_class=processing_class,
            **kwargs,
        )
        bare = self.bare(self.model)
        if self.use_vllm:
            self.vllm_generation = CheckedVllm(self.vllm_generation, bare.config.image_token_id)
        self.without_engine = "engine is 'generate'" if engine == "generate" else self._why_no_engine()
        if engine == "fast" and self.without_engine is not None:
            raise ConfigError(f"engine 'fast' cannot draw the rollouts ({self.without_engine}): use 'auto'")
        self._rollouts: SharedRollouts | None = None
        self.without_sharing = why_not_shared(bare) if share_prefix else "share_prefix is false"
        if self.without_sharing is None:
            for known in (self.model, self.ref_model):
                if known is not None:
                    share_prefixes(self.bare(known))

    # Data: pairs stay whole.

    def _get_train_sampler(self, dataset: Dataset | None = None) -> PairSampler:
        halves = self.train_dataset if dataset is None else dataset
        return PairSampler(
            len(halves) // 2,
            self.num_generations,
            self.args.generation_batch_size // (2 * self.num_generations),
            repeats=self.num_iterations * self.args.steps_per_generation,
            shuffle=self.shuffle_dataset,
            seed=self.args.seed,
            epoch=lambda: self._epoch(len(halves) // 2),
        )

    def _epoch(self, pairs: int) -> int:
        """How often the pairs have been gone through, by the steps done; exact where an epoch begins."""
        batches = pairs * 2 * self.num_generations // self.args.generation_batch_size
        passes = batches * self.num_iterations * self.args.steps_per_generation
        return int(self.state.global_step // max(1, -(-passes // self.args.gradient_accumulation_steps)))

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """TRL's, without its shuffle: groups stay together in the passes that a batch is cut into."""
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        passes = self.args.steps_per_generation
        if self._step % (passes * self.num_iterations) == 0 or self._buffered_inputs is None:
            whole: Any = split_pixel_values_by_grid(self._generate_and_score_completions(generation_batch))
            parts: Any = split_tensor_dict(whole, passes)
            self._buffered_inputs = [unsplit_pixel_values_by_grid(part) for part in parts]
        return self._buffered_inputs[self._step % passes]

    # Rollouts: from the shared-prefix engine where it can run the model.

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        rows = torch.arange(len(inputs), device=self.accelerator.device)
        self._groups = rows // self.num_generations
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        return output | {"group": self._groups}

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[Any], Any, dict[str, Any]]:
        if self.without_engine is not None:
            found: tuple[list[Any], Any, dict[str, Any]] = super()._tokenize_prompts(prompts)
            return found
        count = self.num_generations
        ids, images, fields = super()._tokenize_prompts(prompts[::count])
        return _repeat(ids, count), None if images is None else _repeat(images, count), fields

    def _generate_single_turn(
        self, prompt_ids: list[Any], images: Any, multimodal_fields: dict[str, Any], num_generations: int, *rest: Any
    ) -> tuple[list[list[int]], Any]:
        if self.without_engine is not None:
            drawn: tuple[list[list[int]], Any] = super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, *rest
            )
            return drawn
        if self._rollouts is None:
            bare = self.bare(self.model)
            self._rollouts = SharedRollouts(bare, self.processing_class, self.args, self.eos_token_ids)
        seed = draw_seed(self.args.seed, self.state.global_step, self._step % self.args.gradient_accumulation_steps)
        first = self.accelerator.process_index * len(prompt_ids)
        prompts = prompt_ids[::num_generations]
        return self._rollouts.draw(prompts, multimodal_fields, num_generations, seed, first), None

    # Rewards: across the two halves of a pair, gathered over processes.

    def win_loss_ratio(self, *, completion_ids: list[list[int]], principles: list[Any], **columns: Any) -> list[float]:
        """In TRL's eyes the reward function: the scores. `_calculate_rewards` turns them into ratios.

        No score is infinity here, for TRL warns at length of rewards that are NaN.
        """
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        texts = self._tokenizer.batch_decode(
            completion_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        read = [
            self._read(text, asked, ids[-1] not in ends)
            for text, asked, ids in zip(texts, principles, completion_ids, strict=True)
        ]
        spent = self._tokenizer([reasoning for _, reasoning in read], add_special_tokens=False)["input_ids"]
        self._reasoning_tokens = [len(ids) for ids in spent]
        self._texts = texts
        return [score if score == score else float("inf") for score, _ in read]

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        scores = rewards[:, 0].masked_fill(~rewards[:, 0].isfinite(), torch.nan)
        tau_w, tau_l = scores.view(-1, 2, self.num_generations).unbind(1)
        ratios = torch.stack(win_loss_ratios(tau_w, tau_l), dim=1)
        rewards[:, 0] = ratios.flatten()
        tokens = torch.tensor(self._reasoning_tokens, dtype=torch.float32, device=rewards.device)
        self._note(tau_w, tau_l, ratios, self.accelerator.gather(tokens).view_as(ratios))
        self._keep_first_pair(inputs, scores, rewards[:, 0])
        return rewards

    def _note(self, tau_w: Tensor, tau_l: Tensor, ratios: Tensor, tokens: Tensor) -> None:
        """Metrics of (pairs, 2, N) `ratios` and `tokens` of reasoning."""
        advantages = torch.stack(gcpo_advantages(tau_w, tau_l), dim=1)
        found = gcpo_metrics(tau_w, tau_l) | {
            "win_ratio": ratios[:, 0].mean(),
            "loss_ratio": ratios[:, 1].mean(),
            "weighted_advantage": weighted_advantage(advantages, tokens).mean(),
            "reasoning_tokens": tokens.mean(),
            "score_preferred": tau_w.nanmean(),
            "score_other": tau_l.nanmean(),
            "pairs_without_advantage": (advantages == 0).flatten(1).all(dim=1).float().mean(),
        }
        for name, value in found.items():
            self._metrics["train"][name].append(float(value))

    def _keep_first_pair(self, inputs: Any, scores: Tensor, ratios: Tensor) -> None:
        """The rollouts of this process's first pair, for whoever wants to look at some."""
        start = self.accelerator.process_index * len(inputs)
        self.last_rollouts = [
            {
                "pair": inputs[i]["id"],
                "half": ("preferred", "other")[inputs[i]["half"]],
                "score": float(scores[start + i]),
                "ratio": float(ratios[start + i]),
                "reasoning_tokens": self._reasoning_tokens[i],
                "text": self._texts[i],
            }
            for i in range(2 * self.num_generations)
        ]

    # The training forward: what a group shares is encoded once, and groups that teach nothing are left out.

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._groups, self._idle = inputs.get("group"), self._without_gradient(inputs)
        try:
            loss: Tensor = super()._compute_loss(model, inputs)
        finally:
            self._idle = None
        return loss

    def _without_gradient(self, inputs: dict[str, Any]) -> Tensor | None:
        """Rows whose advantage is 0, where nothing but the advantage gives a row a gradient; None elsewhere."""
        entropy_terms = getattr(self, "_entropy_bonus_enabled", False) or self.top_entropy_quantile < 1
        if self.beta != 0 or entropy_terms or inputs.get("old_per_token_logps") is not None:
            return None
        return inputs["advantages"] == 0

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **fields: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        rows = None
        if self.without_sharing is None and self._groups is not None and not compute_aux_loss:
            rows = group_rows(self._groups.tolist())
        if rows is None or len(rows) * len(rows[0]) != len(input_ids):
            wanted = {"compute_entropy": compute_entropy, "compute_aux_loss": compute_aux_loss}
            found: tuple[Tensor, Tensor | None, Tensor | None] = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, **wanted, **fields
            )
            return found
        idle = self._idle
        if idle is not None:  # one group is always computed, so that there is a gradient, if of zeros
            rows = [group for group in rows if not idle[group].all()] or rows[:1]
        at_once = max(1, (batch_size or len(input_ids)) // len(rows[0]))
        parts = [
            self._forward_shared(model, rows[i : i + at_once], input_ids, attention_mask, logits_to_keep, fields)
            for i in range(0, len(rows), at_once)
        ]
        computed = torch.tensor(rows, device=input_ids.device).flatten()
        found_logps = torch.cat([logp for logp, _ in parts])
        logps = found_logps.new_zeros(len(input_ids), found_logps.shape[1]).index_copy(0, computed, found_logps)
        if not compute_entropy:
            return logps, None, None
        entropy = torch.cat([entropy for _, entropy in parts if entropy is not None])
        said = attention_mask[computed, -logits_to_keep:].bool()
        # TRL logs the mean over all rows: those left out count as the others on average.
        entropies = entropy.new_full(logps.shape, float(entropy.detach()[said].mean())).index_copy(0, computed, entropy)
        return logps, entropies, None

    def _forward_shared(
        self, model: Any, rows: list[list[int]], input_ids: Tensor, mask: Tensor, length: int, fields: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities and entropies (rows, C) of whole groups, in the order of `rows`.

        A reference model's head gives no entropies.
        """
        config = self.bare(self.model).config
        batch = share(
            rows,
            input_ids,
            mask,
            length,
            image_token=config.image_token_id,
            merge=config.vision_config.spatial_merge_size,
            pad=self._tokenizer.pad_token_id,
            pixel_values=fields.get("pixel_values"),
            image_grid_thw=fields.get("image_grid_thw"),
            num_images=fields.get("num_images"),
        )
        with self.accelerator.autocast():
            out = model(**batch.model_inputs(), shift_labels=batch.labels, fused_lm_head=True)
        return batch.by_row(out.log_probs), None if out.entropy is None else batch.by_row(out.entropy)

    # The rest.

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load whole weights by `from_pretrained`, which knows the names that `save_pretrained` gives them.

        The trainer of transformers 5 looks them up by their names in memory, and leaves those that it does not find as
        they are: of Qwen2.5-VL, a resumed run would go on from its parent's weights, with no more than a warning.
        """
        bare = self.accelerator.unwrap_model(self.model)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or hasattr(bare, "peft_config"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(bare).from_pretrained(resume_from_checkpoint, dtype=bare.dtype, use_safetensors=True)
        bare.load_state_dict(saved.state_dict())

    @property
    def processor(self) -> Any:
        """The model's processor."""
        return self.processing_class

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: the run directory's own files say more."""

    def bare(self, model: Any) -> Any:
        """A model without wrappers; under LoRA the base model, whose layers hold the adapters."""
        model = self.accelerator.unwrap_model(model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def _why_no_engine(self) -> str | None:
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        return why_no_engine(self.bare(self.model), self.args, sharded)


def check_settings(args: Any, halves: Any, extra: dict[str, Any]) -> None:
    """Refuse what would tear pairs apart, and what cannot be had.

    Raises:
        ConfigError: with the reason.
    """
    for name, (fine, why) in REFUSED.items():
        value = getattr(args, name, fine[0])
        if getattr(value, "value", value) not in fine:
            raise ConfigError(f"{name} = {value!r} cannot be had with GCPO: {why}")
    for name in ("tools", "environment_factory", "rollout_func", "eval_dataset"):
        if extra.get(name) is not None:
            raise ConfigError(f"{name} cannot be had with GCPO: a rollout is one verdict on one half of a pair")
    for name in ("split_batches", "dispatch_batches"):
        if getattr(args.accelerator_config, name, None):
            raise ConfigError(f"accelerator_config.{name} cannot be had with GCPO: it would tear pairs apart")
    if not isinstance(halves, Dataset) or len(halves) % 2:
        raise ConfigError("GCPO trains on a map-style data set with two rows a pair: give Halves(...).dataset()")
    rows = args.per_device_train_batch_size * args.steps_per_generation
    if rows % (2 * args.num_generations):
        raise ConfigError(
            f"{rows} rollouts are drawn at a time in each process, which is no multiple of the "
            f"{2 * args.num_generations} of a pair: a pair would be torn apart"
        )


def _repeat(items: Sequence[Any], count: int) -> list[Any]:
    return [item for item in items for _ in range(count)]

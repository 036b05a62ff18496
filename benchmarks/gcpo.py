"""One step of GCPO against one of TRL's plain GRPO with as many rollouts, side by side in one run.

    python benchmarks/gcpo.py                          # the embedded verifier, or a random model of its size
    python benchmarks/gcpo.py --rollouts 16 --rounds 7

Both get the same model, the same pictures and prompts, the same number of rollouts and of optimiser steps, and rollouts
of one length: what ends an answer is a token that is never written. GRPO takes each half as a prompt of its own with a
reward of its own, which is all it knows. One warm-up, then both in turn, several rounds; medians, with the range.
Where the time of a step goes is measured in the same rounds.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parts.common import EMBEDDED, Spread, describe_machine, make_parser, take_turns, write_json

if TYPE_CHECKING:
    import argparse

NEVER = "<|vision_start|>"
"""Ends answers here: a token that no answer holds, so that every rollout takes all its tokens."""

PARTS = {
    "prompts": ("_tokenize_prompts",),
    "rollouts": ("_generate_single_turn",),
    "rewards": ("_calculate_rewards",),
    "loss": ("_compute_loss",),
}


def load(device: str) -> tuple[Any, Any, str]:
    """Model, processor, and a line that says what they are."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from editr1.judges.testing import tiny_qwen

    if (EMBEDDED / "config.json").is_file():
        model = AutoModelForImageTextToText.from_pretrained(EMBEDDED, dtype="float32")
        return model.to(device), AutoProcessor.from_pretrained(EMBEDDED), EMBEDDED.name
    model, processor = tiny_qwen(
        hidden_size=256, layers=6, heads=4, kv_heads=2, vision_hidden_size=192, vision_depth=4, vocab_size=1200
    )
    return model.to(device), processor, "a random model of the embedded one's size"


def by_hash(text: str, principles: Any, truncated: bool) -> tuple[float, str]:
    """Any score: rollouts are cut to one length, so that none of them is a verdict."""
    return float(hash(text) % 11), text


class Side:
    """One trainer and its batch.

    Attributes:
        seconds: of each round; `parts`: of each part in each round.
    """

    def __init__(self, name: str, trainer: Any) -> None:
        self.name, self.trainer = name, trainer
        self.batches = iter(trainer.get_train_dataloader())
        self.optimizer = trainer.create_optimizer()
        self.seconds: list[float] = []
        self.parts: dict[str, list[float]] = defaultdict(list)

    def step(self) -> None:
        """Rollouts, rewards, gradient and update, as a training step does them."""
        import torch

        trainer, parts = self.trainer, defaultdict(float)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
        with measured(trainer, parts):
            start = time.perf_counter()
            for number in range(trainer.args.gradient_accumulation_steps):
                trainer._step = number
                inputs = trainer._prepare_inputs(next(self.batches))
                loss = trainer.compute_loss(trainer.model, inputs)
                mark = time.perf_counter()
                loss.backward()
                parts["backward"] += time.perf_counter() - mark
            torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
            self.optimizer.step()
            trainer.model.zero_grad()
            whole = time.perf_counter() - start
        self.seconds.append(whole)
        for name in (*PARTS, "backward"):
            self.parts[name].append(parts[name])
        self.parts["rest"].append(whole - sum(parts.values()))

    def __str__(self) -> str:
        return f"{self.name}: {Spread.of(self.seconds):.3f} s"


@contextmanager
def measured(trainer: Any, parts: dict[str, float]) -> Iterator[None]:
    """Add up the seconds spent in the methods that `PARTS` names."""

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            mark = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                parts[name] += time.perf_counter() - mark

        return run

    patched = [(method, timed(name, getattr(trainer, method))) for name, ms in PARTS.items() for method in ms]
    for method, call in patched:
        setattr(trainer, method, call)
    try:
        yield
    finally:
        for method, _ in patched:
            delattr(trainer, method)


def sides(options: argparse.Namespace, folder: Path) -> tuple[list[Side], str]:
    """Both trainers, and what they train."""
    from copy import deepcopy

    from trl import GRPOConfig, GRPOTrainer

    from editr1.training.gcpo.data import Halves, load_pairs
    from editr1.training.gcpo.stickers import write_sticker_preferences
    from editr1.training.gcpo.trainer import GCPOTrainer
    from editr1.verifier.template import load_template

    model, processor, what = load(options.device)
    model.generation_config.eos_token_id = processor.tokenizer.convert_tokens_to_ids(NEVER)
    processor.tokenizer.eos_token = NEVER
    number = options.pairs * (options.rounds + 1)
    write_sticker_preferences(folder, {"train": ("benchmark", 2 * number)})
    pairs = load_pairs(folder / "train.parquet")

    def settings(name: str) -> GRPOConfig:
        return GRPOConfig(
            output_dir=str(folder / name),
            per_device_train_batch_size=options.rollouts * options.halves,
            gradient_accumulation_steps=2 * options.pairs // options.halves,
            num_generations=options.rollouts,
            max_completion_length=options.tokens,
            scale_rewards="none",
            loss_type="grpo",
            shuffle_dataset=False,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=options.device == "cpu",
            report_to="none",
            disable_tqdm=True,
            learning_rate=1e-6,
        )

    def rows() -> Any:
        return Halves(pairs, load_template("compact"), processor).dataset()

    def reward(completions: list[Any], **columns: Any) -> list[float]:
        return [by_hash(c[0]["content"], (), False)[0] for c in completions]

    ours = GCPOTrainer(deepcopy(model), settings("gcpo"), rows(), processing_class=processor, read=by_hash)
    plain = GRPOTrainer(deepcopy(model), reward, settings("grpo"), rows(), processing_class=processor)
    if ours.without_engine or ours.without_sharing:
        print(f"note: without the engine ({ours.without_engine}), without sharing ({ours.without_sharing})")
    return [Side("GCPO", ours), Side("TRL's GRPO", plain)], what


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=4, help="pairs a step")
    parser.add_argument("--rollouts", type=int, default=8, help="rollouts of each half")
    parser.add_argument("--halves", type=int, default=4, help="halves that go through the model together")
    parser.add_argument("--tokens", type=int, default=160, help="tokens of each rollout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        both, what = sides(options, Path(folder))
        for number, side in take_turns(both, options.rounds):
            side.step()
            if number == 0:
                side.seconds.clear()
                side.parts.clear()
    ours, plain = both
    ratio = Spread.of([a / b for a, b in zip(ours.seconds, plain.seconds, strict=True)])
    rollouts = 2 * options.pairs * options.rollouts
    print(f"{what}; {options.pairs} pairs, {rollouts} rollouts of {options.tokens} tokens; {options.rounds} rounds;")
    print(describe_machine())
    print(f"{ours}\n{plain}")
    print(f"GCPO takes {ratio:.2f} of GRPO's time\n")
    print(f"{'seconds, median':<18}{'GCPO':>8}{'GRPO':>8}{'ratio':>8}")
    figures = {}
    for name in (*PARTS, "backward", "rest"):
        a, b = (statistics.median(side.parts[name]) for side in both)
        figures[name] = {"gcpo": a, "grpo": b}
        print(f"{name:<18}{a:>8.3f}{b:>8.3f}{a / b if b else float('nan'):>8.2f}")
    if options.json:
        record = {"model": what, "settings": vars(options) | {"json": str(options.json)}, "parts": figures}
        record |= {"gcpo": ours.seconds, "grpo": plain.seconds, "ratio": ratio.median}
        write_json(options.json, record)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()

r"""One iteration of editor RL against the straightforward loop over a diffusers pipeline and a verifier, in one run.

    python benchmarks/editor_rl.py                       # the embedded editor, or fresh weights of its size
    python benchmarks/editor_rl.py --group 8 --contexts 2 --rounds 3
    python benchmarks/editor_rl.py --check               # that both sides compute the same thing
    python benchmarks/editor_rl.py --device cuda --editor kontext-12b --random-weights --area 262144 \
        --group 8 --contexts 2 --rounds 2 --micro-batch 4 --gradient-checkpointing

Three sides take turns over several rounds, each from the same LoRA (it is put back afterwards), on the same contexts
and seeds:

- **editr1**: the trainer's own iteration (`editr1.training.editor.loop`), with a window of `--window` trained steps.
  Contexts are encoded once, groups are sampled and scored together; on a GPU scoring runs beside sampling.
- **editr1, all steps**: the same with all steps but the last stochastic and trained. What lies between it and the first
  is saved by the window, which is another algorithm; what lies between it and the third is engineering.
- **straightforward** (`peers/editor_loop.py`): what one would write from `FluxKontextPipeline.__call__` and
  `Verifier.score`. For every picture it calls text encoders and VAE, samples with a stochastic step in place of the
  scheduler's, decodes, and asks for one verdict. Then it goes through all pictures and all steps but the last, one by
  one, and makes one step of the optimizer. What its sampling encoded it uses again in training. `--plain-batch` lets it
  take several pictures of a context together, in sampling and in training; verdicts stay single.

Group size, contexts, steps of the sampler and the verifier are equal, and the straightforward side is spared what a
first version often lacks: it has the same fast judge (`--plain-engine generate` takes that away), and its verifier
splits an instruction into principles once, too. Contexts are new in every round, as in a first pass over a data set; in
later passes editr1 would not encode them at all.

To keep the work equal, every picture teaches: the n-th of a group gets n thousandths more than its verdict, and a
verdict that cannot be read counts 0. Otherwise editr1 would pass over flat groups, which fresh weights often have.

FLOP are counted on one forward, and one forward and backward, of the transformer with its LoRA; encoders, VAE and
verifier are left out, and so is what gradient checkpointing computes twice. The rate of matrix multiplication that they
are set against is measured before and after the rounds. The seconds of scoring are those that were waited for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from editr1.editors import PipelineEditor
    from editr1.rewards import EditSample, Reward, RewardResult
    from editr1.training.editor.policy import Policy
    from editr1.training.editor.recipe import EditorRecipe
    from editr1.training.editor.rollouts import Seconds
    from editr1.types import EditTask

PARTS = ("sampling", "scoring", "training")
TEXTS = 2000
"""Instructions that the tokenizers of fresh weights are learnt from."""

MakeOptimizer = Callable[[list["Tensor"]], "torch.optim.Optimizer"]


class EveryPictureTeaches:
    """A reward that leaves no group flat and no picture without a value; keeps the values.

    Attributes:
        values: of all samples, by their names.
    """

    name = "benchmark"

    def __init__(self, reward: Reward) -> None:
        self._reward = reward
        self.values: dict[str, float] = {}

    def score(self, samples: Sequence[EditSample], *, on_result: Any = None) -> list[RewardResult]:
        """See `Reward`."""
        from editr1.rewards import RewardResult

        found = self._reward.score(samples)
        for sample, result in zip(samples, found, strict=True):
            self.values[sample.name] = (result.value or 0.0) + 1e-3 * int(sample.name.rpartition(".")[2])
        return [RewardResult.of(self.values[sample.name]) for sample in samples]


@dataclass
class Bench:
    """What all sides share.

    Attributes:
        start: the LoRA's weights, which every step begins with.
        make_optimizer: of the LoRA; each side has its own.
    """

    editor: PipelineEditor
    recipe: EditorRecipe
    policy: Policy
    start: list[Tensor]
    contexts: Any
    make_optimizer: MakeOptimizer

    @classmethod
    def create(cls, editor: PipelineEditor, recipe: EditorRecipe, make_optimizer: MakeOptimizer) -> Bench:
        """With a fresh LoRA."""
        from editr1.training.editor.contexts import open_contexts
        from editr1.training.editor.policy import Policy

        policy = Policy(editor, recipe, ())
        start = [parameter.detach().clone() for parameter in policy.parameters.values()]
        return cls(editor, recipe, policy, start, open_contexts(recipe.contexts), make_optimizer)

    def tasks(self, iteration: int) -> list[EditTask]:
        """Of an iteration, by slot."""
        from editr1.training.editor.contexts import chosen, usable

        recipe = self.recipe
        places = chosen(iteration, recipe.contexts_per_step, len(self.contexts), recipe.seed)
        return [usable(self.contexts, place) for place in places]


@dataclass
class Side:
    """One way to do an iteration.

    Attributes:
        step: does the iteration of that number, and says where its time went.
        trained: steps of each picture that are trained.
        values: rewards of its pictures, by name.
        whole: seconds of each round; parts: of each part in each round.
    """

    name: str
    step: Callable[[int], Seconds]
    trained: int
    values: dict[str, float]
    whole: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})

    def run(self, bench: Bench, iteration: int) -> list[Tensor]:
        """Do and time an iteration, and put the weights back; returns how far the step had moved them."""
        begun = time.perf_counter()
        seconds = self.step(iteration)
        self.whole.append(time.perf_counter() - begun)
        for part in PARTS:
            self.parts[part].append(getattr(seconds, part))
        parameters = bench.policy.parameters.values()
        moved = [before - p.detach() for before, p in zip(bench.start, parameters, strict=True)]
        bench.policy.load(bench.start)
        return moved


def ours(name: str, bench: Bench, window: int | None, reward: Reward, *, overlap: bool) -> Side:
    """The trainer's own iteration, with a window of so many steps, or all."""
    from editr1.editors.cache import ContextCache
    from editr1.rewards.background import BackgroundScorer
    from editr1.rewards.guard import FailureGuard
    from editr1.training.editor.loop import iterate
    from editr1.training.editor.recipe import EditorRecipe
    from editr1.training.editor.rollouts import Seconds
    from editr1.training.editor.setup import ALGORITHMS, Work
    from editr1.training.editor.state import Progress
    from editr1.training.editor.update import Learner

    settings = bench.recipe.model_dump(exclude_unset=True)
    if window is not None:
        settings["grpo"] = settings["grpo"] | {"window": {"kind": "fixed", "size": window}}
    recipe = EditorRecipe.model_validate(settings)
    steps = recipe.sampling.steps or bench.editor.steps
    algorithm = ALGORITHMS[recipe.algorithm](recipe, steps)
    optimizer = bench.make_optimizer(list(bench.policy.parameters.values()))
    kept = EveryPictureTeaches(reward)
    nothing: Any = None  # a run's folder and what is written there are no part of an iteration
    work = Work(
        recipe=recipe,
        run=nothing,
        accelerator=SimpleNamespace(process_index=0, num_processes=1, is_main_process=True),
        editor=bench.editor,
        kept_dtype=bench.editor.pipeline.transformer.dtype,
        contexts=bench.contexts,
        cache=ContextCache(bench.editor),
        algorithm=algorithm,
        policy=bench.policy,
        learner=Learner(recipe, bench.editor, bench.policy, algorithm, optimizer, list, 1),
        checkpoints=nothing,
        scorer=BackgroundScorer(kept, retries=0),
        guard=FailureGuard(1.0, 64),
        evaluation=None,
        gather=list,
        steps=steps,
        overlap=overlap,
    )

    def step(iteration: int) -> Seconds:
        seconds = Seconds()
        iterate(work, Progress(iteration=iteration), seconds)
        return seconds

    return Side(name, step, algorithm.parts_per_picture, kept.values)


def plain(bench: Bench, reward: Reward, batch: int) -> Side:
    """The straightforward side."""
    from peers.editor_loop import Plain

    kept = EveryPictureTeaches(reward)
    loop = Plain(bench, kept, batch)
    steps = bench.recipe.sampling.steps
    assert steps is not None
    return Side("straightforward", loop.step, steps - 1, kept.values)


# What is measured ---------------------------------------------------------------------------------------------------


def flops(bench: Bench) -> tuple[float, float]:
    """Of one picture at one step: a forward of the transformer, and a forward with its backward."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    editor = bench.editor
    (context,) = editor.encode(bench.tasks(0)[:1])
    latents = editor.noise(context.geometry, [torch.Generator("cpu").manual_seed(0)])
    batch, found = editor.batch([context]), []
    if bench.recipe.gradient_checkpointing:
        editor.pipeline.transformer.disable_gradient_checkpointing()
    for backward in (False, True):
        # attention as two matrix multiplications, which the counter knows on every device
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.set_grad_enabled(backward):
            velocity = editor.velocity(latents, 0.5, batch)
            if backward:
                velocity.square().mean().backward()
        found.append(float(counter.get_total_flops()))
    for parameter in bench.policy.parameters.values():
        parameter.grad = None
    if bench.recipe.gradient_checkpointing:
        editor.pipeline.transformer.enable_gradient_checkpointing()
    return found[0], found[1]


def figures(side: Side, bench: Bench, work: tuple[float, float], peak: float) -> dict[str, Any]:
    """Medians of a side, its range, and its share of the measured rate."""
    recipe = bench.recipe
    pictures = recipe.group_size * recipe.contexts_per_step
    sampling = pictures * (recipe.sampling.steps or bench.editor.steps) * work[0]
    training = pictures * side.trained * work[1]
    median = {part: statistics.median(side.parts[part]) for part in PARTS}
    whole = statistics.median(side.whole)
    return {
        "seconds": median | {"iteration": whole},
        "range": [min(side.whole), max(side.whole)],
        "rounds": side.whole,
        "trained_steps": side.trained,
        "flop": {"sampling": sampling, "training": training},
        "share_of_rate": {
            "sampling": sampling / median["sampling"] / peak,
            "training": training / median["training"] / peak,
            "iteration": (sampling + training) / whole / peak,
        },
    }


def ratio(slower: Side, faster: Side) -> dict[str, Any]:
    """Of the seconds of each round: the median, and the range."""
    found = [a / b for a, b in zip(slower.whole, faster.whole, strict=True)]
    return {"median": statistics.median(found), "range": [min(found), max(found)]}


def same_rewards(one: Side, other: Side) -> tuple[int, int]:
    """How many pictures got the same reward from both, and how many there are."""
    assert one.values.keys() == other.values.keys()
    return sum(abs(one.values[name] - other.values[name]) < 1e-6 for name in one.values), len(one.values)


def measure(sides: Sequence[Side], bench: Bench, rounds: int) -> None:
    """A warm-up, then all in turn, forwards and backwards, so that a busy moment of the machine hits all alike."""
    for number in range(rounds + 1):
        for side in sides if number % 2 else sides[::-1]:
            side.run(bench, number)
            if number == 0:
                side.whole.clear()
                for part in PARTS:
                    side.parts[part].clear()


# What it is measured on ---------------------------------------------------------------------------------------------


def load_editor(options: argparse.Namespace) -> tuple[PipelineEditor, str]:
    """The editor, and a line that says what it is."""
    import torch

    from editr1.editors import build_editor, wrap
    from editr1.editors.base import EditorOptions
    from editr1.editors.names import MODELS_FOLDER
    from editr1.editors.sticker_pipeline import OPTIONS, SIZES, make_sticker_kontext

    over = EditorOptions(area=options.area, reference_area=options.area)
    name = options.editor
    if name == "embedded" and not (MODELS_FOLDER / "sticker-kontext-small/model_index.json").is_file():
        name, options.random_weights = "small", True
        print("note: no embedded editor in this installation, so fresh weights of its size")
    if not options.random_weights:
        if name == "kontext-12b":
            raise SystemExit("kontext-12b stands for random weights of FLUX.1-Kontext's size: add --random-weights")
        dtype = "bfloat16" if options.precision == "bf16" and options.device != "cpu" else "float32"
        editor = build_editor(name, options=over, dtype=dtype, device=options.device)
        if type(editor.pipeline).__name__ != "FluxKontextPipeline":
            raise SystemExit(
                f"{name} is a {type(editor.pipeline).__name__}: the straightforward side knows Kontext only"
            )
        what = editor.name
    elif name == "kontext-12b":
        if not options.device.startswith("cuda") or not torch.cuda.is_available():
            raise SystemExit("kontext-12b needs a GPU of 80 GB: add --device cuda, or take another --editor")
        editor = wrap(random_kontext(options.device), over.model_copy(update={"guidance_scale": 2.5}))
        what = "random weights of FLUX.1-Kontext's size"
    elif name in SIZES:
        pipeline: Any = make_sticker_kontext(name, texts())
        loosen(pipeline.transformer)
        merged = OPTIONS.model_copy(update=over.model_dump(exclude_none=True))
        editor, what = wrap(pipeline.to(options.device), merged), f"a sticker editor, {name}, with fresh weights"
    else:
        raise SystemExit(f"no random weights for {name}: choose from {', '.join(SIZES)} and kontext-12b")
    editor.autocast = torch.bfloat16 if options.precision == "bf16" else None
    millions = sum(p.numel() for p in editor.pipeline.transformer.parameters()) / 1e6
    return editor, f"{what}, transformer of {millions:.1f} M parameters, {options.precision} on {options.device}"


def texts() -> list[str]:
    """Instructions that tokenizers are learnt from."""
    from editr1.stickers.tasks import sample_task

    return [sample_task("tokenizer", index).instruction for index in range(TEXTS)]


def loosen(transformer: Any) -> None:
    """Weights that are fresh and 0 get small values: no gradient would come through them."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in transformer.parameters():
            if parameter.ndim == 2 and not parameter.any():
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))


def random_kontext(device: str) -> Any:
    """A pipeline of the dimensions of FLUX.1-Kontext-dev with both its text encoders, bfloat16, about 34 GB."""
    import torch

    from editr1.editors.sticker_pipeline import assemble_kontext
    from editr1.editors.tokenizers import learn_clip_tokenizer, learn_t5_tokenizer

    some = texts()
    clip, t5 = learn_clip_tokenizer(some, 4096, 77), learn_t5_tokenizer(some, 4096, 512)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)  # float32 on its way there would not fit
    try:
        with torch.device(device):
            return assemble_kontext(
                clip,
                t5,
                transformer={
                    "in_channels": 64,
                    "num_layers": 19,
                    "num_single_layers": 38,
                    "num_attention_heads": 24,
                    "attention_head_dim": 128,
                    "axes_dims_rope": (16, 56, 56),
                    "guidance_embeds": True,
                },
                vae={"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 16},
                text={
                    "hidden_size": 768,
                    "intermediate_size": 3072,
                    "num_hidden_layers": 12,
                    "num_attention_heads": 12,
                },
                text_2={"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
                scheduler={"use_dynamic_shifting": True, "shift": 3.0},
                seed=0,
            )
    finally:
        torch.set_default_dtype(before)


def make_recipe(options: argparse.Namespace) -> EditorRecipe:
    """All steps trained; `ours` sets the window."""
    from editr1.training.editor.recipe import EditorRecipe

    return EditorRecipe.model_validate(
        {
            "name": "benchmark",
            "editor": "given",
            "contexts": {"stickers": "benchmark", "count": options.contexts * (options.rounds + 1)},
            "rewards": {"judge": {"kind": "verifier"}},
            "group_size": options.group,
            "contexts_per_step": options.contexts,
            "sampling": {"steps": options.steps, "batch_size": options.batch},
            "micro_batch_size": options.micro_batch,
            "grpo": {"noise_level": 0.9, "clip": 1e-2},
            "lora": {"rank": options.rank, "alpha": 2.0 * options.rank},
            "learning_rate": 1e-4,
            "precision": options.precision,
            "gradient_checkpointing": options.gradient_checkpointing,
        }
    )


def verifier_rewards(options: argparse.Namespace) -> list[Reward]:
    """A verifier for each of the three sides: each remembers its own principles only; the models are shared."""
    from editr1.rewards.verifier import VerifierReward
    from editr1.verifier import Verifier

    quick = Verifier.from_pretrained(options.verifier, device=options.device)
    other = quick
    if options.plain_engine == "generate":
        other = Verifier.from_pretrained(options.verifier, device=options.device, engine="generate")

    def fresh(base: Any) -> Reward:
        return VerifierReward(
            Verifier(base.judge, template=base.template, sampling=base.sampling, max_tries=base.max_tries)
        )

    return [fresh(quick), fresh(quick), fresh(other)]


# That both compute the same -----------------------------------------------------------------------------------------


class Brightness:
    """A reward without a model whose values lie close and are all different: the mean level, in [0, 1]."""

    name = "brightness"

    def score(self, samples: Sequence[EditSample], *, on_result: Any = None) -> list[RewardResult]:
        """See `Reward`."""
        import numpy as np

        from editr1.images import load_image
        from editr1.rewards import RewardResult

        return [RewardResult.of(float(np.asarray(load_image(sample.edited)).mean()) / 255) for sample in samples]


def check(*, plain_batch: int = 1) -> tuple[float, float]:
    """Both sides on a tiny random editor, from the same LoRA and seeds: rewards and gradient have to agree.

    The optimizer is plain descent at rate 1, unclipped: how far it moves the weights is the gradient.

    Returns:
        the largest difference of a reward, and that of the gradient as a share of its length.

    Raises:
        AssertionError: if they differ by more than rounding explains: 1e-4 and 1e-3.
    """
    import torch

    from editr1.editors import wrap
    from editr1.editors.testing import KONTEXT_OPTIONS, tiny_kontext
    from editr1.training.editor.recipe import EditorRecipe

    options = parse(["--group", "4", "--contexts", "2", "--steps", "4", "--rank", "4", "--rounds", "0"])
    settings = make_recipe(options).model_dump(exclude_unset=True) | {"learning_rate": 1.0, "max_grad_norm": 1e9}
    recipe = EditorRecipe.model_validate(settings)
    editor = wrap(tiny_kontext(), KONTEXT_OPTIONS)
    bench = Bench.create(editor, recipe, lambda parameters: torch.optim.SGD(parameters, lr=1.0))
    generator = torch.Generator().manual_seed(0)
    bench.start = [p + 0.05 * torch.randn(p.shape, generator=generator) for p in bench.start]  # a fresh LoRA is silent
    bench.policy.load(bench.start)
    sides = [ours("editr1", bench, None, Brightness(), overlap=False), plain(bench, Brightness(), plain_batch)]
    gradients = [torch.cat([part.flatten() for part in side.run(bench, 0)]) for side in sides]
    assert sides[0].values.keys() == sides[1].values.keys(), "other pictures were scored"
    off = max(abs(value - sides[1].values[name]) for name, value in sides[0].values.items())
    length = float(gradients[0].norm())
    differs = float((gradients[0] - gradients[1]).norm()) / length
    assert length > 1e-4, f"a gradient of length {length} shows nothing"
    assert off < 1e-4, f"rewards differ by up to {off}"
    assert differs < 1e-3, f"gradients differ by {differs:.2e} of their length"
    return off, differs


# The command --------------------------------------------------------------------------------------------------------


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only check that both sides compute the same")
    parser.add_argument("--editor", default="embedded", help="embedded, small, large, kontext-12b, or a folder")
    parser.add_argument("--random-weights", action="store_true", help="fresh weights of that size")
    parser.add_argument("--verifier", default="embedded", help="embedded, a folder or a hub id")
    parser.add_argument("--group", type=int, default=16, help="pictures of a context (default 16)")
    parser.add_argument("--contexts", type=int, default=4, help="contexts of an iteration (default 4)")
    parser.add_argument("--steps", type=int, default=6, help="of the sampler (default 6)")
    parser.add_argument("--window", type=int, default=2, help="trained steps of the first side (default 2)")
    parser.add_argument("--batch", type=int, default=24, help="pictures that editr1 samples together (default 24)")
    parser.add_argument("--micro-batch", type=int, default=64, help="pictures that it trains on together (default 64)")
    parser.add_argument("--plain-batch", type=int, default=1, help="both of the straightforward side (default 1)")
    parser.add_argument("--plain-engine", choices=("auto", "generate"), default="auto", help="of its verifier")
    parser.add_argument("--rank", type=int, default=16, help="of the LoRA (default 16)")
    parser.add_argument("--area", type=int, help="pixels of edited and source picture; default: the editor's own")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="on all sides")
    parser.add_argument("--rounds", type=int, default=5, help="after a warm-up (default 5)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="default: fp32 on a CPU, bf16 on a GPU")
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    options = parser.parse_args(arguments)
    options.precision = options.precision or ("fp32" if options.device == "cpu" else "bf16")
    return options


def show(record: dict[str, Any]) -> None:
    """The record, for people."""
    chosen = record["settings"]
    forward, both = (count / 1e9 for count in record["flop_per_picture_and_step"])
    print(record["editor"])
    print(
        f"verifier {chosen['verifier']}; {chosen['contexts']} contexts, groups of {chosen['group']}, "
        f"{chosen['steps']} steps; {chosen['rounds']} rounds"
    )
    print(record["machine"])
    print(f"matrix multiplication: {record['rate'] / 1e9:.0f} GFLOP/s")
    print(f"a picture at one step: {forward:.3g} GFLOP, with the backward {both:.3g} GFLOP\n")
    print_table(record["sides"])
    for name, found in record["ratios"].items():
        low, high = found["range"]
        print(f"{name}: {found['median']:.2f} ({low:.2f}-{high:.2f})")
    same, number = record["same_rewards"]
    print(f"pictures with the same reward on both sides, all steps trained: {same} of {number}")


def print_table(sides: dict[str, Any]) -> None:
    """Medians of the seconds, and shares of the measured rate."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="seconds of an iteration, medians; in brackets: share of the measured rate")
    for column in ("", "trained steps", "sampling", "scoring", "training", "iteration", "range"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, side in sides.items():
        seconds, share = side["seconds"], side["share_of_rate"]
        cells = [f"{seconds[c]:.2f}" + (f" ({share[c]:.1%})" if c in share else "") for c in (*PARTS, "iteration")]
        low, high = side["range"]
        table.add_row(name, str(side["trained_steps"]), *cells, f"{low:.2f}-{high:.2f}")
    Console(width=120).print(table)


def main() -> int:
    """Measure and print."""
    import diffusers
    import transformers

    options = parse()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    diffusers.logging.set_verbosity_error()
    if options.check:
        off, differs = check(plain_batch=options.plain_batch)
        print(f"the same: rewards to {off:.1e}, the gradient to {differs:.1e} of its length")
        return 0

    import torch
    from scoring import gemm_rate, machine

    editor, what = load_editor(options)
    recipe = make_recipe(options)
    bench = Bench.create(editor, recipe, lambda parameters: torch.optim.AdamW(parameters, lr=recipe.learning_rate))
    rewards, overlap = verifier_rewards(options), options.device != "cpu"
    windowed = ours("editr1", bench, options.window, rewards[0], overlap=overlap)
    whole = ours("editr1, all steps", bench, None, rewards[1], overlap=overlap)
    loop = plain(bench, rewards[2], options.plain_batch)
    sides = [windowed, whole, loop]
    dtype = "bfloat16" if options.precision == "bf16" else "float32"
    work, peak = flops(bench), gemm_rate(dtype, options.device)
    measure(sides, bench, options.rounds)
    peak = max(peak, gemm_rate(dtype, options.device))
    record = {
        "editor": what,
        "machine": machine(),
        "settings": vars(options) | {"out": None if options.out is None else str(options.out)},
        "rate": peak,
        "flop_per_picture_and_step": work,
        "sides": {side.name: figures(side, bench, work, peak) for side in sides},
        "ratios": {
            "straightforward / editr1": ratio(loop, windowed),
            "straightforward / editr1, all steps": ratio(loop, whole),
            "editr1, all steps / editr1 (the window)": ratio(whole, windowed),
        },
        "same_rewards": same_rewards(whole, loop),
    }
    show(record)
    if options.out:
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

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

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parts.common import describe_machine, gemm_rate, make_parser, quieten, write_json
from parts.editor_models import load_editor, make_recipe, verifier_rewards
from parts.editor_sides import PARTS, Bench, figures, flops, measure, ours, plain, ratio, same_rewards

if TYPE_CHECKING:
    import argparse

    from editr1.rewards import EditSample, RewardResult


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


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command."""
    parser = make_parser(__doc__)
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
    options = parse()
    quieten()
    if options.check:
        off, differs = check(plain_batch=options.plain_batch)
        print(f"the same: rewards to {off:.1e}, the gradient to {differs:.1e} of its length")
        return 0

    import torch

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
        "machine": describe_machine(),
        "settings": vars(options) | {"out": None if options.out is None else str(options.out)},
        "rate": peak,
        "flop_per_picture_and_step": work,
        "sides": {side.name: figures(side, bench, work, peak) for side in sides},
        "ratios": {
            "straightforward / editr1": ratio(loop, windowed).to_dict(),
            "straightforward / editr1, all steps": ratio(loop, whole).to_dict(),
            "editr1, all steps / editr1 (the window)": ratio(whole, windowed).to_dict(),
        },
        "same_rewards": same_rewards(whole, loop),
    }
    show(record)
    if options.out:
        write_json(options.out, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())

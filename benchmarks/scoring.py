"""How fast 24 candidates of one context are scored: the fast engine against transformers and editscore.

    python benchmarks/scoring.py                       # the embedded verifier, or a random model of its size
    python benchmarks/scoring.py --model PATH --dtype bfloat16 --device cuda

All contestants get the same model, pictures and prompts, and write the same number of tokens for each candidate: the
end token is ignored, so that lengths are fixed. One warm-up, then every contestant in turn, several rounds; medians.
In float32 every contestant must write the same tokens, or this fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parts.common import EMBEDDED, Spread, describe_machine, gemm_rate, make_parser, quieten

if TYPE_CHECKING:
    from editr1.judges.base import ChatRequest

Tokens = list[list[int]]


@dataclass
class Contestant:
    """One way to write the answers."""

    name: str
    run: Callable[[], Tokens]
    seconds: list[float] = field(default_factory=list)
    tokens: Tokens = field(default_factory=list)

    @property
    def spread(self) -> Spread:
        """Of the seconds for the whole group."""
        return Spread.of(self.seconds)


def load(name: str | None, dtype: str, device: str) -> tuple[Any, Any, str]:
    """Model, processor and a line that says what they are."""
    import torch

    from editr1.judges.testing import tiny_qwen

    path = name or (str(EMBEDDED) if EMBEDDED.is_dir() else None)
    if path is None:
        # Wide initial weights keep the logits apart; answers are nonsense of the right length.
        model, processor = tiny_qwen(
            hidden_size=256, layers=8, heads=4, kv_heads=2, vision_hidden_size=192, vision_depth=4, vocab_size=1200,
            initializer_range=0.08,
        )  # fmt: skip
        what = "random weights of the Qwen2.5-VL classes"
    else:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        model = AutoModelForImageTextToText.from_pretrained(path)
        processor = AutoProcessor.from_pretrained(path)
        what = Path(path).name
    model = model.to(device=device, dtype=getattr(torch, dtype)).eval()
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    return model, processor, f"{what}, {millions:.1f} M parameters, {dtype} on {device}"


def make_requests(group: int, tokens: int, side: int) -> list[ChatRequest]:
    """One context, as editor RL scores it: source, instruction and principles alike, the edited picture differs."""
    import numpy as np
    from PIL import Image

    from editr1.judges.base import ChatRequest, Sampling
    from editr1.types import Category, Principle
    from editr1.verifier.render import render_score
    from editr1.verifier.template import load_template

    rng = np.random.default_rng(0)
    base = np.asarray(
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    )
    source = Image.fromarray(base)
    principles = [
        Principle("Is there a yellow star in the upper left corner?", Category.FOLLOW),
        Principle("Is the red balloon unchanged?", Category.KEEP),
        Principle("Is the picture free of noise and blur?", Category.QUALITY),
    ]
    requests = []
    for _ in range(group):
        edited = base.copy()
        top, left = rng.integers(0, side * 2 // 3, 2)
        edited[top : top + side // 3, left : left + side // 3] = rng.integers(0, 256, 3)
        messages = render_score(
            load_template("compact"), source, Image.fromarray(edited), "Put a yellow star in the corner.", principles
        )
        requests.append(ChatRequest(messages, Sampling(max_tokens=tokens)))
    return requests


def contestants(model: Any, processor: Any, requests: list[ChatRequest], tokens: int) -> list[Contestant]:
    """The engine and transformers, from pictures and words to token ids; preparing inputs is part of the time."""
    from editr1.judges.base import Picture
    from editr1.judges.fast import FastEngine
    from editr1.judges.fast.prompts import to_chat

    def encode(some: list[ChatRequest]) -> Any:
        texts = [
            processor.apply_chat_template(to_chat(r.messages), tokenize=False, add_generation_prompt=True) for r in some
        ]
        images = [part.image for r in some for m in r.messages for part in m.content if isinstance(part, Picture)]
        inputs = processor(text=texts, images=images, return_tensors="pt", padding=True, padding_side="left")
        return inputs.to(model.device)

    def generate(some: list[ChatRequest]) -> Tokens:
        inputs = encode(some)
        output = model.generate(
            **inputs, max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0, repetition_penalty=1.0
        )
        return output[:, inputs["input_ids"].shape[1] :].tolist()

    engine = FastEngine(model, processor, ignore_end=True, repetition_penalty=1.0, max_rows=len(requests))
    return [
        Contestant("editr1 fast engine", lambda: [list(draw.tokens) for draw in engine.draw(requests)]),
        Contestant("(b) generate, one batch", lambda: generate(requests)),
        Contestant("(a) generate, a loop", lambda: [generate([request])[0] for request in requests]),
    ]


def flops(model: Any, processor: Any, requests: list[ChatRequest], tokens: int, *, share: bool) -> float:
    """Multiplications and additions that the group takes, counted from shapes: 2 per weight and token, 4 per
    attended pair and dimension.

    Args:
        model: whose layers are counted.
        processor: of the model.
        requests: the group.
        tokens: written for each request.
        share: whether what the requests have in common is counted once (what the engine runs) or for each.
    """
    from editr1.judges.fast.prompts import group_by_prefix, tokenise

    text, vision = model.config.text_config, model.config.vision_config
    prompts, pictures = tokenise(requests, processor, vision.spatial_merge_size)
    layers = sum(p.numel() for p in model.model.language_model.layers.parameters())
    attended = 4 * text.num_hidden_layers * text.hidden_size

    def span(first: int, last: int) -> float:
        """Tokens `first` to `last` of one sequence."""
        return (last - first) * 2 * layers + attended * (last * (last + 1) - first * (first + 1)) / 2

    total = 0.0
    for group in group_by_prefix(prompts):
        shared = group.shared if share else 0
        total += span(0, shared)
        total += sum(span(shared, len(prompts[m]) + tokens - 1) for m in group.members)
    total += 2 * model.lm_head.weight.numel() * tokens * len(requests)
    tower = sum(p.numel() for p in model.model.visual.parameters())
    times = (
        [1] * len(pictures.grids)
        if share
        else [sum((p.pictures == n).any() for p in prompts) for n in range(len(pictures.grids))]
    )
    for count, (frames, rows, columns) in zip(times, pictures.grids):
        patches = frames * rows * columns
        total += count * patches * (2 * tower + 4 * vision.depth * vision.hidden_size * patches)
    return total


def run_rounds(field_: list[Contestant], repeats: int) -> None:
    """One warm-up each, then all in turn, so that a busy moment of the machine hits all alike."""
    for number in range(repeats + 1):
        for contestant in field_:
            started = time.perf_counter()
            contestant.tokens = contestant.run()
            if number:
                contestant.seconds.append(time.perf_counter() - started)


def compare_tokens(ours: Contestant, other: Contestant) -> tuple[int, int]:
    """How many answers are the same, and how many tokens come before the first difference, summed over answers."""
    same = sum(a == b for a, b in zip(ours.tokens, other.tokens))
    before = sum(
        next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), len(a)) for a, b in zip(ours.tokens, other.tokens)
    )
    return same, before


class Editscore:
    """The package `editscore` in a process and an environment of its own; scores the group when told to.

    Args:
        python: of an environment in which editscore is installed.
        folder: for the model and the pictures.
        threads: for its process.
    """

    def __init__(self, python: str, folder: Path, threads: int) -> None:
        self._folder = folder
        self._command = [python, str(Path(__file__).parent / "peers/editscore_worker.py"), str(folder / "task.json")]
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self._process: subprocess.Popen[str] | None = None

    def start(self, model: Any, processor: Any, requests: list[ChatRequest], tokens: int) -> str | None:
        """Hand over the task; gives the reason if it cannot be done."""
        from editr1.judges.base import Picture, Text

        model.save_pretrained(self._folder / "model")
        processor.save_pretrained(self._folder / "model")
        chats = []
        for number, request in enumerate(requests):
            parts = request.messages[-1].content
            paths = []
            for k, picture in enumerate(part for part in parts if isinstance(part, Picture)):
                paths.append(str(self._folder / f"{number}-{k}.png"))
                picture.image.save(paths[-1])
            chats.append({"images": paths, "text": "".join(p.text for p in parts if isinstance(p, Text))})
        task = {"model": str(self._folder / "model"), "chats": chats, "tokens": tokens, "device": model.device.type}
        (self._folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
        errors = (self._folder / "errors.txt").open("w", encoding="utf-8")
        try:
            self._process = subprocess.Popen(
                self._command, stdin=-1, stdout=-1, stderr=errors, text=True, env=self._environment
            )
        except OSError as exc:
            return f"could not be started: {exc}"
        if not self._line().startswith("ready"):
            written = (self._folder / "errors.txt").read_text(encoding="utf-8").strip().splitlines()
            return f"could not be loaded: {written[-1] if written else 'it ended without a word'}"
        return None

    def run(self) -> Tokens:
        """Score the group once."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        if not self._line().startswith("done"):
            raise RuntimeError(f"editscore failed: {(self._folder / 'errors.txt').read_text(encoding='utf-8')[-400:]}")
        return []

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()

    def _line(self) -> str:
        """The next line that is for us; editscore and its libraries print, too."""
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(("ready", "done")):
                return line
        return ""


def print_table(field_: list[Contestant], work: dict[str, float], peak: float) -> None:
    """Medians, spread, ratios and the share of the measured multiplication rate."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="seconds for the whole group")
    for column in ("", "median", "fastest", "slowest", "against the engine", "GFLOP/s", "share of measured rate"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    ours = field_[0].spread.median
    for c in field_:
        took = c.spread
        rate = work.get(c.name, 0.0) / took.median
        table.add_row(
            c.name,
            f"{took.median:.3f}",
            f"{took.low:.3f}",
            f"{took.high:.3f}",
            f"{took.median / ours:.2f}x",
            f"{rate / 1e9:.0f}" if rate else "",
            f"{rate / peak:.0%}" if rate else "",
        )
    Console(width=120).print(table)


def main() -> int:
    """Run the comparison; exit code 1 if float32 answers differ."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", help="path or hub id of a Qwen2.5-VL model; default: the embedded verifier")
    parser.add_argument("--group", type=int, default=24, help="candidates of the context (default 24)")
    parser.add_argument("--tokens", type=int, default=200, help="tokens written for each (default 200)")
    parser.add_argument("--side", type=int, default=96, help="side of the pictures in pixels (default 96)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds after the warm-up (default 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--no-loop", action="store_true", help="leave out the slow loop of generate")
    parser.add_argument(
        "--editscore-python", default=os.environ.get("EDITSCORE_PYTHON"), help="a Python with editscore"
    )
    args = parser.parse_args()

    import torch

    torch.set_num_threads(args.threads)
    quieten()
    model, processor, what = load(args.model, args.dtype, args.device)
    requests = make_requests(args.group, args.tokens, args.side)
    field_ = contestants(model, processor, requests, args.tokens)[: 2 if args.no_loop else 3]
    compared, note = list(field_), "not asked for: install it into an environment of its own, name --editscore-python"
    folder = tempfile.TemporaryDirectory()
    other = Editscore(args.editscore_python or "", Path(folder.name), args.threads)
    if args.editscore_python:
        note = other.start(model, processor, requests, args.tokens) or "takes bfloat16 whatever it is given"
        if note.startswith("takes"):
            field_.append(Contestant("(c) editscore, a loop", other.run))
    print(describe_machine())
    print(f"{what}; {args.group} candidates of one context, {args.tokens} tokens each, end tokens ignored")
    peak = gemm_rate(args.dtype, args.device)
    run_rounds(field_, args.repeats)
    other.close()
    folder.cleanup()
    peak = max(peak, gemm_rate(args.dtype, args.device))
    shared, plain = (flops(model, processor, requests, args.tokens, share=share) for share in (True, False))
    print(f"work: {shared / 1e9:.0f} GFLOP with the prefix encoded once, {plain / 1e9:.0f} without")
    print(f"measured multiplication rate: {peak / 1e9:.0f} GFLOP/s")
    print_table(field_, {c.name: shared if c is field_[0] else plain for c in compared}, peak)
    print(f"(c) editscore: {note}")

    differs = False
    for contestant in compared[1:]:
        same, before = compare_tokens(field_[0], contestant)
        differs |= same < args.group
        print(f"identical answers, {contestant.name}: {same} of {args.group}; tokens before the first difference: "
              f"{before} of {args.group * args.tokens}")  # fmt: skip
    if differs and args.dtype == "float32":
        print("FAILED: greedy answers differ")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Small pictures that say what they are worth, so that a scripted judge can read the truth off the pixels."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from eval_helpers import Outcome
from PIL import Image
from reproduction_fakes import write_recipes

from editr1.cli import eval_judging, options
from editr1.cli.main import run
from editr1.evaluation.benchmarks import Benchmark, Loaded, PictureStore, load_pairs
from editr1.evaluation.bootstrap import bootstrap
from editr1.evaluation.pairwise import PairwiseScorer
from editr1.evaluation.prompts import load_pair_prompt, load_rating_prompt
from editr1.evaluation.reproduction.places import Place, ReproductionSettings
from editr1.evaluation.reward_models import RewardModelResult, evaluate_reward_model
from editr1.evaluation.runs import EvalRun
from editr1.evaluation.scorers import RatingScorer
from editr1.judges import ChatReply, ChatRequest, Picture, ReplyStatus, ScriptedJudge, Text
from editr1.stickers.draw import draw
from editr1.stickers.tasks import sample_task
from editr1.verifier import Verifier

PIXELS = 32
FIGURES_ONLY = (
    *(
        "test_benchmarks",
        "test_compare",
        "test_editor_benchmarks",
        "test_eval_cli",
        "test_eval_odd_input",
        "test_layouts",
    ),
    *("test_generate", "test_sticker_benchmarks", "test_reproduction", "test_reproduction_exhibits"),
)
"""Files of tests that say nothing about intervals."""


def worth(image: Image.Image) -> float:
    """The number, 0 to 25.5, that `picture` hid in the top left corner."""
    return image.getpixel((1, 1))[0] / 10


def picture(value: float, tag: int, size: int = PIXELS) -> bytes:
    """PNG of a sticker scene with a value in its corner; `tag` makes pictures of equal value differ."""
    image = draw(sample_task("unit-evaluation", tag % 7).before).resize((size, size))
    image.paste((round(10 * value), tag % 256, tag // 256), (0, 0, size // 4, size // 4))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def shown(request: ChatRequest) -> list[Image.Image]:
    return [p.image for m in request.messages for p in m.content if isinstance(p, Picture)]


def said(request: ChatRequest) -> str:
    return "\n".join(p.text for m in request.messages for p in m.content if isinstance(p, Text))


def ratings(*values: float) -> str:
    return f'I looked. {{"reasoning": "as it is", "scores": {json.dumps(list(values))}}}'


@pytest.fixture(autouse=True)
def few_resamples(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rough intervals are enough where the figures themselves are tested, and take a tenth of the time."""
    if request.path.stem in FIGURES_ONLY:
        monkeypatch.setattr(bootstrap, "__defaults__", (200, *bootstrap.__defaults__[1:]))


@pytest.fixture
def kit() -> SimpleNamespace:
    """The functions above, for tests: a conftest cannot be imported."""
    return SimpleNamespace(
        worth=worth, picture=picture, shown=shown, said=said, ratings=ratings, refusal=refusal, evaluate=evaluate
    )


def evaluate(
    benchmark: Benchmark, data: Path, out: Path, judge: Any, scorer: str = "holistic", **settings: Any
) -> tuple[RewardModelResult, Loaded]:
    """A benchmark's figures by a scripted judge."""
    loaded = load_pairs(benchmark, str(data), PictureStore(out / "pictures"), settings.pop("limit", None))
    passes, both_orders = settings.pop("passes", 1), settings.pop("both_orders", True)

    def make() -> Any:
        if scorer == "pairwise":
            return PairwiseScorer(judge, load_pair_prompt(), both_orders=both_orders, max_tries=1)
        return RatingScorer(judge, load_rating_prompt(scorer), passes=passes, max_tries=1)

    run = EvalRun(out, {"benchmark": benchmark.name, "scorer": scorer}, {"data": str(data)})
    result = evaluate_reward_model(benchmark, loaded, run, make, pairwise=scorer == "pairwise", **settings)
    return result, loaded


def refusal() -> ChatReply:
    return ChatReply(ReplyStatus.REFUSED, error="the judge declined")


@pytest.fixture
def honest() -> ScriptedJudge:
    """Rates each edited picture by its hidden value: [v], or [v, v]."""

    def answer(request: ChatRequest) -> str:
        value = worth(shown(request)[-1])
        number = len(re.search(r'"scores": \[([^\]]*)\]', said(request))[1].split(","))
        return ratings(*[value] * number)

    return ScriptedJudge(answer, name="honest")


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as Parquet, Arrow or JSONL; in JSONL, bytes become files beside it."""

    def write(rows: list[dict[str, Any]], name: str = "data/train-00000.parquet") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(_with_files(r, path.parent)) + "\n" for r in rows), encoding="utf-8")
            return path
        import pyarrow
        from pyarrow import ipc, parquet

        table = pyarrow.Table.from_pylist([_with_structs(r) for r in rows])
        if path.suffix == ".parquet":
            parquet.write_table(table, path)
        else:
            with ipc.new_stream(str(path), table.schema) as file:
                file.write_table(table)
        return path

    return write


def _with_structs(value: Any) -> Any:
    """Pictures as `datasets` stores them."""
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}
    if isinstance(value, dict):
        return {k: _with_structs(v) for k, v in value.items()}
    return [_with_structs(v) for v in value] if isinstance(value, list) else value


def _with_files(value: Any, folder: Path) -> Any:
    if isinstance(value, bytes):
        name = f"{hash(value) & 0xFFFFFFFF:08x}.png"
        (folder / name).write_bytes(value)
        return name
    if isinstance(value, dict):
        return {k: _with_files(v, folder) for k, v in value.items()}
    return [_with_files(v, folder) for v in value] if isinstance(value, list) else value


@pytest.fixture
def place(tmp_path):
    """Nothing ships, all recipes are there."""
    recipes = write_recipes(tmp_path / "recipes")

    def make(**settings):
        given = ReproductionSettings(recipes=recipes, **settings)
        return Place(tmp_path / "out", given, shipped=tmp_path / "shipped", models=tmp_path / "models")

    return make


@pytest.fixture
def editr1(monkeypatch, capsys, tmp_path):
    """`editr1 ARGUMENTS` with a judge that can be exchanged: `editr1.judge`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Outcome(int(caught.value.code or 0), captured.out, captured.err)

    def build(config, *, quiet=False):
        call.built += 1
        return Verifier(call.judge, template=config.template or "compact", max_tries=config.max_tries)

    call.built = 0
    monkeypatch.setattr(options, "build_verifier", build)
    monkeypatch.setattr(eval_judging, "check_judge", lambda scorer, settings: None)  # the judge is none of those named
    return call


@pytest.fixture
def pairs(kit, write_rows):
    """`n` own pairs: the preferred edit is worth 7, the other one 3."""

    def make(n, name="pairs/data.jsonl"):
        return write_rows(
            [
                {
                    "id": f"p{i}",
                    "source": kit.picture(0, i),
                    "preferred": kit.picture(7, 1000 + i),
                    "other": kit.picture(3, 2000 + i),
                    "instruction": f"edit number {i}",
                }
                for i in range(n)
            ],
            name,
        )

    return make

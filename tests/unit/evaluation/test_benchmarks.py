"""Each benchmark in its published format, with ties and flaws, and its official figure worked out by hand."""

import json
from itertools import combinations, count

import pytest

from editr1.errors import DataError, MissingExtraError
from editr1.evaluation.benchmarks import REWARD_MODEL_BENCHMARKS, PictureStore, load_pairs
from editr1.evaluation.benchmarks.editscore import TASKS
from editr1.judges import ScriptedJudge

FORMATS = ("data/train-00000.parquet", "data-00000-of-00001.arrow", "rows.jsonl")


def values(figures):
    return {name: e.value for name, e in figures.items()}


@pytest.fixture
def editscore_rows(kit):
    """13 tasks, three dimensions; returns rows and a function that makes one.

    Of "overall": tasks 0-7 win, 8 and 9 tie, 10-12 lose; task 0 has a second pair, which loses. All pairs of
    "prompt_following" win, all of "consistency" lose.
    """
    numbers = count(1)

    def row(task, dimension, preferred, other, key=None):
        n = next(numbers)
        return {
            "key": key or [f"{n}-a", f"{n}-b"],
            "instruction": f"edit number {n}",
            "input_image": kit.picture(0, n),
            "output_images": [kit.picture(preferred, 2 * n + 1, size=48), kit.picture(other, 2 * n)],
            "task_type": task,
            "dimension": dimension,
        }

    rows = []
    for i, task in enumerate(TASKS):
        rows.append(row(task, "overall", *((8, 3) if i < 8 else (5, 5) if i < 10 else (2, 6))))
        rows.append(row(task, "prompt_following", 7, 1))
        rows.append(row(task, "consistency", 1, 7))
    rows.append(row(TASKS[0], "overall", 2, 6))
    return rows, row


@pytest.mark.parametrize("name", FORMATS)
def test_editscore_by_hand(name, editscore_rows, write_rows, honest, kit, tmp_path):
    """Macro overall: (1/2 + 7 * 1 + 2 * 0 + 3 * 0) / 13; micro 8 of 14; 2 of 14 are ties."""
    rows, _ = editscore_rows
    result, loaded = kit.evaluate(
        REWARD_MODEL_BENCHMARKS["editscore"], write_rows(rows, name), tmp_path / "run", honest
    )
    assert loaded.problems == []
    assert values(result.official) == {
        "overall": pytest.approx(7.5 / 13),
        "prompt_following": 1.0,
        "consistency": 0.0,
    }
    overall = result.dimensions["overall"]
    assert overall.strict.value == pytest.approx(8 / 14)
    assert overall.half_credit.value == pytest.approx(9 / 14)
    assert overall.ties.value == pytest.approx(2 / 14)
    assert overall.macro_half_credit.value == pytest.approx((0.5 + 7 + 2 * 0.5) / 13)
    assert overall.tasks[TASKS[0]].value == 0.5
    assert len(overall.tasks) == 13
    assert {i.size for r in honest.requests for i in kit.shown(r)} == {(32, 32)}, "edited resized to the source's size"


def test_editscore_scores_each_picture_once_for_all_its_dimensions(editscore_rows, write_rows, honest, kit, tmp_path):
    rows, _ = editscore_rows
    same = [rows[0] | {"dimension": d} for d in ("overall", "prompt_following", "consistency")]
    result, _ = kit.evaluate(REWARD_MODEL_BENCHMARKS["editscore"], write_rows(same), tmp_path / "run", honest)
    assert result.pairs == 3
    assert len(honest.requests) == 2


def test_a_dimension_takes_its_own_number_from_a_judge_that_has_one(editscore_rows, write_rows, honest, kit, tmp_path):
    """The judge gives success 9, restraint 1 to the preferred edit and 1, 9 to the other: SC is 1 for both."""
    _, row = editscore_rows
    pairs = [row("extract", d, 9, 1) for d in ("prompt_following", "consistency", "overall")]

    def answer(request):
        value = kit.worth(kit.shown(request)[-1])
        return kit.ratings(value, 10 - value) if len(kit.shown(request)) == 2 else kit.ratings(4, 4)

    honest._replies = answer
    result, _ = kit.evaluate(REWARD_MODEL_BENCHMARKS["editscore"], write_rows(pairs), tmp_path / "run", honest, "scpq")
    strict = {name: found.strict.value for name, found in result.dimensions.items()}
    assert strict == {"prompt_following": 1.0, "consistency": 0.0, "overall": 0.0}
    assert result.official == {}, "12 tasks are missing"
    assert result.dimensions["overall"].ties.value == 1.0


def test_editscore_has_no_official_figure_of_fewer_tasks(editscore_rows, write_rows, honest, kit, tmp_path):
    """A judge that refuses every pair of one task: the mean over the other 12 is no official figure."""
    rows, _ = editscore_rows
    of_task = {row["instruction"] for row in rows if row["task_type"] == rows[0]["task_type"]}

    def answer(request):
        if any(f"{words}\n" in kit.said(request) for words in of_task):
            return kit.refusal()
        return kit.ratings(kit.worth(kit.shown(request)[-1]))

    honest._replies = answer
    result, _ = kit.evaluate(REWARD_MODEL_BENCHMARKS["editscore"], write_rows(rows), tmp_path / "run", honest)
    assert "overall" not in result.official
    assert len(result.dimensions["overall"].tasks) == 12


def test_editscores_contradiction_is_seen_however_the_two_are_listed(editscore_rows, write_rows, honest, kit, tmp_path):
    """The same two pictures, keys and pictures swapped: the one says that the first is better, the other the second."""
    rows, _ = editscore_rows
    row = rows[0]
    turned = row | {"key": row["key"][::-1], "output_images": row["output_images"][::-1]}
    _, loaded = kit.evaluate(
        REWARD_MODEL_BENCHMARKS["editscore"], write_rows([*rows[:3], turned]), tmp_path / "run", honest
    )
    assert loaded.counts == {"contradiction": 1}
    assert len(loaded.pairs) == 2


def test_editscores_flaws_are_listed_and_counted(editscore_rows, write_rows, honest, kit, tmp_path):
    rows, row = editscore_rows
    turned = rows[3] | {"output_images": rows[3]["output_images"][::-1]}
    flawed = [
        rows[0],
        rows[0],
        rows[3],
        turned,
        row("juggling", "overall", 1, 2),
        row("compose", "taste", 1, 2),
        rows[6] | {"output_images": [b"not a picture", kit.picture(1, 1)]},
        rows[6] | {"output_images": [kit.picture(1, 1)]},
        rows[6] | {"input_image": None},
        rows[6] | {"instruction": " "},
    ]
    result, loaded = kit.evaluate(REWARD_MODEL_BENCHMARKS["editscore"], write_rows(flawed), tmp_path / "run", honest)
    assert loaded.counts == {"contradiction": 1, "duplicate": 1, "picture": 2, "row": 4}
    assert (result.pairs, loaded.rows) == (1, 10)
    text = "\n".join(map(str, loaded.problems))
    assert "train-00000.parquet:row 2: the key 1-a|1-b|overall was there already, at train-00000.parquet:row 1" in text
    assert "holds 'juggling', which is none of subject-add" in text
    listed = [json.loads(line) for line in (tmp_path / "run" / "problems.jsonl").read_text().splitlines()]
    assert len(listed) == 8


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda folder: folder.mkdir(), "holds no table"),
        (lambda folder: None, "there is no file or folder"),
        (lambda folder: folder.write_text("x"), "is none of .parquet, .arrow, .jsonl"),
        (lambda folder: (folder.mkdir(), (folder / "a.parquet").write_text("x")), "cannot be read as Parquet"),
        (lambda folder: (folder.mkdir(), (folder / "a.arrow").write_text("x")), "cannot be read as Arrow"),
        (lambda folder: (folder.mkdir(), (folder / "a.jsonl").write_text('{"id": 1}\n')), "the column key is missing"),
        (lambda folder: (folder.mkdir(), (folder / "a.jsonl").write_text("[1]\n")), "a row must be an object"),
    ],
)
def test_a_wrong_layout_is_an_error_that_says_what_is_there(tmp_path, prepare, why):
    folder = tmp_path / "data"
    prepare(folder)
    with pytest.raises(DataError, match=why):
        load_pairs(REWARD_MODEL_BENCHMARKS["editscore"], str(folder), PictureStore(tmp_path / "pictures"))


def test_the_hub_needs_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"editr1\[train\]"):
        load_pairs(
            REWARD_MODEL_BENCHMARKS["editscore"], "EditScore/EditReward-Bench", PictureStore(tmp_path / "pictures")
        )


def test_the_hub_is_read_through_datasets(tmp_path, monkeypatch, editscore_rows, kit, honest):
    """`load_dataset` is told repository and split; its pictures arrive undecoded."""
    datasets = pytest.importorskip("datasets")
    rows, _ = editscore_rows
    features = datasets.Features(
        {
            "key": datasets.Sequence(datasets.Value("string")),
            "instruction": datasets.Value("string"),
            "input_image": datasets.Image(),
            "output_images": datasets.Sequence(datasets.Image()),
            "task_type": datasets.Value("string"),
            "dimension": datasets.Value("string"),
        }
    )
    structs = [
        r | {"input_image": {"bytes": r["input_image"]}, "output_images": [{"bytes": b} for b in r["output_images"]]}
        for r in rows[:6]
    ]
    asked = []

    def load_dataset(name, config, split, revision):
        asked.append((name, config, split, revision))
        return datasets.Dataset.from_list(structs, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("editr1.evaluation.benchmarks.tables._hub_revision", lambda name: "abc")
    result, loaded = kit.evaluate(
        REWARD_MODEL_BENCHMARKS["editscore"], "EditScore/EditReward-Bench", tmp_path / "run", honest
    )
    assert asked == [("EditScore/EditReward-Bench", None, "train", "abc")]
    assert result.pairs == 6
    assert loaded.table.revision == "abc"


@pytest.fixture
def tiger_rows(kit):
    """Contexts of 2, 3 and 4 candidates, unfolded as published."""
    numbers = count(1)

    def context(ways, worths, ranks):
        """Candidates A, B, ... with the values that the judge sees and the ranks that people gave (1 is best)."""
        n = next(numbers)
        letters = "ABCD"[:ways]
        scores = ("score", "overall_score", "instruction_following", "visual_quality")
        pictures = {k: kit.picture(v, 10 * n + i) for i, (k, v) in enumerate(zip(letters, worths, strict=True))}
        rank = dict(zip(letters, ranks, strict=True))
        for one, two in combinations(letters, 2):
            better = f"{one}>{two}" if rank[one] < rank[two] else f"{two}>{one}"
            yield {
                "id": f"c{n}_{one}{two}",
                "dataset": f"{ways}pair",
                "instruction": f"edit number {n}",
                "source_image": kit.picture(0, n),
                "candidate_1": pictures[one],
                "candidate_2": pictures[two],
                "ranking": better if rank[one] != rank[two] else f"{one}={two}",
                "comparison_type": f"{one}vs{two}",
                "model_1": f"model {one}",
                "model_2": f"model {two}",
                **{f"{name}_{side}": 5.0 - rank[k] for name in scores for side, k in ((1, one), (2, two))},
            }

    return context


def test_tiger_by_hand(tiger_rows, write_rows, honest, kit, tmp_path):
    """2-way: right, right, a tie seen as one, a tie not seen, wrong: 3 of 5.

    3-way: one context all right, one with B and C the wrong way round: 1 of 2 contexts, 3 + 2 of 6 comparisons.
    4-way: one context all right; one with A and B the wrong way round, of which a comparison is missing, enters no
    figure of contexts: 1 of 1, and 6 + 4 of 11 comparisons.
    """
    rows = [
        *tiger_rows(2, (8, 3), (1, 2)),
        *tiger_rows(2, (3, 8), (2, 1)),
        *tiger_rows(2, (5, 5), (1, 1)),
        *tiger_rows(2, (5, 6), (1, 1)),
        *tiger_rows(2, (5, 6), (1, 2)),
        *tiger_rows(3, (8, 5, 2), (1, 2, 3)),
        *tiger_rows(3, (8, 2, 5), (1, 2, 3)),
        *tiger_rows(4, (1, 3, 5, 7), (4, 3, 2, 1)),
        *list(tiger_rows(4, (3, 1, 5, 7), (4, 3, 2, 1)))[:5],
    ]
    assert len(rows) == 22
    result, loaded = kit.evaluate(REWARD_MODEL_BENCHMARKS["tiger"], write_rows(rows), tmp_path / "run", honest)
    assert loaded.problems == []
    assert values(result.official) == {
        "2-way": pytest.approx(3 / 5),
        "3-way": pytest.approx(1 / 2),
        "3-way, single comparisons": pytest.approx(5 / 6),
        "4-way": 1.0,
        "4-way, single comparisons": pytest.approx(10 / 11),
    }


def test_tigers_contexts_with_failures(tiger_rows, write_rows, kit, tmp_path):
    """Three contexts of three: one all right; one with A and B the wrong way round and C refused; one that is right
    but for C, which is refused. Whole is one, and right; with failures as wrong, 1 of 3 is right."""
    rows = [
        *tiger_rows(3, (8, 5, 2), (1, 2, 3)),
        *tiger_rows(3, (5, 8, 1.1), (1, 2, 3)),
        *tiger_rows(3, (8, 5, 1.1), (1, 2, 3)),
    ]

    def answer(request):
        value = kit.worth(kit.shown(request)[-1])
        return kit.refusal() if value == 1.1 else kit.ratings(value)

    judge = ScriptedJudge(answer)
    result, _ = kit.evaluate(REWARD_MODEL_BENCHMARKS["tiger"], write_rows(rows), tmp_path / "run", judge)
    assert values(result.official) == {
        "3-way": 1.0,
        "3-way, failures as wrong": pytest.approx(1 / 3),
        "3-way, single comparisons": pytest.approx(4 / 5),
    }


def test_a_tie_margin_is_given_and_never_fitted(tiger_rows, write_rows, honest, kit, tmp_path):
    rows = [*tiger_rows(2, (5, 6), (1, 1)), *tiger_rows(2, (5, 8), (2, 1))]
    result, _ = kit.evaluate(
        REWARD_MODEL_BENCHMARKS["tiger"], write_rows(rows), tmp_path / "run", honest, tie_margin=1.0
    )
    assert result.official["2-way"].value == 1.0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["manifest"]["tie_margin"] == 1.0


def test_tigers_flaws(tiger_rows, write_rows, kit, tmp_path):
    (good,) = tiger_rows(2, (8, 3), (1, 2))
    rows = [
        good,
        good | {"id": "x_1", "ranking": "A>C"},
        good | {"id": "y_1", "dataset": "5pair"},
        good | {"id": "z_1", "comparison_type": "A/B"},
        good | {"ranking": "B>A"},
        good | {"id": "w_1"},
    ]
    loaded = load_pairs(REWARD_MODEL_BENCHMARKS["tiger"], str(write_rows(rows)), PictureStore(tmp_path / "pictures"))
    assert loaded.counts == {"contradiction": 1, "row": 3}
    assert [p.id for p in loaded.pairs] == ["2-way/w_1/AvsB"]


def test_genai_bench_by_hand(write_rows, honest, kit, tmp_path):
    """Left and right votes, 12 of which 9 are right and 1 is tied; ties and "both bad", 8 of which 5 are seen.

    Preferences 9/12, exact match (9 + 5)/20. The older split beside it is left alone.
    """
    rows = []
    cases = [("leftvote", 7, 2)] * 5 + [("rightvote", 2, 7)] * 4 + [("leftvote", 2, 7)] * 2 + [("rightvote", 4, 4)]
    cases += [("tievote", 5, 5)] * 3 + [("bothbad_vote", 1, 1)] * 2 + [("tievote", 5, 6)] * 2 + [("bothbad_vote", 2, 1)]
    for n, (vote, left, right) in enumerate(cases):
        rows.append(
            {
                "source_prompt": "a cup",
                "target_prompt": "a red cup",
                "instruct_prompt": f"edit number {n}",
                "source_image": kit.picture(0, n),
                "left_model": "m1",
                "left_output_image": kit.picture(left, 100 + n),
                "right_model": "m2",
                "right_output_image": kit.picture(right, 200 + n),
                "vote_type": vote,
            }
        )
    write_rows(rows[:3], "hub/image_edition/test-00000-of-00001.parquet")
    write_rows(rows, "hub/image_edition/test_v1-00000-of-00001.parquet")
    write_rows([{"prompt": "no edit"}], "hub/image_generation/test_v1-00000-of-00001.parquet")
    result, loaded = kit.evaluate(REWARD_MODEL_BENCHMARKS["genai_bench"], tmp_path / "hub", tmp_path / "run", honest)
    assert (loaded.rows, loaded.problems, result.same) == (20, [], 8)
    assert values(result.official) == {"preferences": pytest.approx(9 / 12), "with ties": pytest.approx(14 / 20)}
    assert result.dimensions["overall"].ties.value == pytest.approx(1 / 12)


def genai_row(kit, n, vote="leftvote"):
    return {
        "source_prompt": "a cup",
        "target_prompt": "a red cup",
        "instruct_prompt": f"edit number {n}",
        "source_image": kit.picture(0, n),
        "left_model": "m1",
        "left_output_image": kit.picture(7, 100 + n),
        "right_model": "m2",
        "right_output_image": kit.picture(2, 200 + n),
        "vote_type": vote,
    }


def test_genai_bench_by_the_folder_of_its_pictures_takes_the_same_split(kit, write_rows, tmp_path):
    write_rows([genai_row(kit, n) for n in range(3)], "hub/image_edition/test-00000-of-00001.parquet")
    write_rows([genai_row(kit, n) for n in range(3, 8)], "hub/image_edition/test_v1-00000-of-00001.parquet")
    for folder in ("hub", "hub/image_edition"):
        loaded = load_pairs(
            REWARD_MODEL_BENCHMARKS["genai_bench"], str(tmp_path / folder), PictureStore(tmp_path / "p")
        )
        assert loaded.rows == 5


def test_splits_are_never_mixed(kit, write_rows, tmp_path):
    """Saved from `datasets`, without the name of the folder: which split is meant has to be said."""
    for split in ("test", "test_v1"):
        write_rows([genai_row(kit, n) for n in range(2)], f"saved/{split}/data-00000-of-00002.arrow")
        write_rows([genai_row(kit, n) for n in range(2, 4)], f"saved/{split}/data-00001-of-00002.arrow")
    bench = REWARD_MODEL_BENCHMARKS["genai_bench"]
    with pytest.raises(DataError, match=r"2 tables \(test/data, test_v1/data\), and none is called image_edition"):
        load_pairs(bench, str(tmp_path / "saved"), PictureStore(tmp_path / "p"))
    assert load_pairs(bench, str(tmp_path / "saved" / "test_v1"), PictureStore(tmp_path / "p")).rows == 4


def mmrb2_pair(kit, folder, number, chosen, worth_a, worth_b, sources=1):
    for name, value in (("s", 0), ("a", worth_a), ("b", worth_b)):
        (folder / f"{name}{number}.png").write_bytes(kit.picture(value, number + ord(name)))
    return {
        "pair_id": f"p{number}",
        "prompt_source": ("emu", "hq")[number % 2],
        "prompt_content": [["text", f"edit number {number}"], *[["image", f"s{number}.png"]] * sources],
        "response_a": {"model": "m1", "response_content": [["image", f"a{number}.png"], ["text", "done"]]},
        "response_b": {"model": "m2", "response_content": [["image", f"b{number}.png"]]},
        "chosen": chosen,
    }


def test_mmrb2_by_hand(kit, honest, tmp_path):
    """20 pairs: A chosen in 10, B in 10; 7 + 8 are right, one is tied. Two prompts have two pictures: 15 of 20."""
    folder = tmp_path / "mmrb2"
    folder.mkdir()
    cases = [("A", 8, 1)] * 7 + [("A", 1, 8)] * 3 + [("B", 1, 8)] * 8 + [("B", 4, 4)] + [("B", 8, 1)]
    pairs = [mmrb2_pair(kit, folder, n, *case) for n, case in enumerate(cases)]
    pairs += [mmrb2_pair(kit, folder, 90 + n, "A", 1, 2, sources=2) for n in range(2)]
    pairs += [pairs[0] | {"pair_id": "p99", "chosen": "C"}, "nonsense"]
    (folder / "edit.json").write_text(json.dumps({"pairs": pairs}))
    result, loaded = kit.evaluate(REWARD_MODEL_BENCHMARKS["mmrb2"], folder, tmp_path / "run", honest)
    assert loaded.counts == {"row": 2, "unsupported": 2}
    assert values(result.official) == {"both orders": pytest.approx(15 / 20)}
    assert set(result.dimensions["overall"].tasks) == {"emu", "hq"}
    assert not REWARD_MODEL_BENCHMARKS["mmrb2"].commercial
    assert not (tmp_path / "run" / "pictures").exists(), "pictures on disk are used where they are"


def test_mmrb2_with_a_pairwise_judge_counts_each_order(kit, tmp_path):
    """The judge always says A: each pair is right in one order and wrong in the other, 1/2, and never consistent."""
    from editr1.judges import ScriptedJudge

    folder = tmp_path / "mmrb2"
    folder.mkdir()
    pairs = [mmrb2_pair(kit, folder, n, "AB"[n % 2], 8, 1) for n in range(6)]
    (folder / "edit.json").write_text(json.dumps({"pairs": pairs}))
    judge = ScriptedJudge(lambda request: '{"reasoning": "", "choice": "A"}')
    result, _ = kit.evaluate(REWARD_MODEL_BENCHMARKS["mmrb2"], folder, tmp_path / "run", judge, "pairwise")
    assert values(result.official) == {"both orders": 0.5}
    assert result.order.inconsistent == 6
    assert result.order.first_shown == 1.0
    assert result.dimensions["overall"].strict.value == 0.0
    assert result.dimensions["overall"].half_credit.value == 0.5
    assert len(judge.requests) == 12


@pytest.mark.parametrize("name", ["pairs.parquet", "pairs.jsonl"])
def test_own_preferences_by_hand(name, kit, honest, write_rows, tmp_path):
    """Kind a: 6 of 8 right; kind b: 3 of 8, one tied. Four "same" pairs are left out. Two annotators may disagree."""
    cases = [("a", 7, 1, False)] * 6 + [("a", 1, 7, False)] * 2 + [("b", 7, 1, False)] * 3
    cases += [("b", 2, 2, False)] + [("b", 1, 7, False)] * 4 + [("a", 5, 9, True)] * 4
    rows = [
        {
            "source": kit.picture(0, n),
            "preferred": kit.picture(p, 100 + n),
            "other": kit.picture(o, 200 + n),
            "instruction": f"edit number {n}",
            "same": same,
            "kind": kind,
            "annotator": "ann",
        }
        for n, (kind, p, o, same) in enumerate(cases)
    ]
    turned = {"preferred": rows[0]["other"], "other": rows[0]["preferred"]}
    rows += [rows[0], rows[6] | {"preferred": rows[6]["other"], "other": rows[6]["preferred"]}]
    rows += [rows[0] | turned | {"annotator": "bob"}]
    rows += [rows[1] | {"other": rows[1]["preferred"], "annotator": "eve"}]  # a picture preferred to itself
    result, loaded = kit.evaluate(REWARD_MODEL_BENCHMARKS["preference"], write_rows(rows, name), tmp_path / "r", honest)
    assert loaded.counts == {"contradiction": 1, "duplicate": 1, "row": 1}
    # row 6, one of the two wrong ones of kind a, contradicts itself and is gone; bob's pair is wrong: a 6/8, b 3/8
    assert result.same == 4
    assert values(result.official) == {"accuracy": pytest.approx(9 / 16)}
    accuracy = result.dimensions["overall"]
    assert values(accuracy.tasks) == {"a": pytest.approx(6 / 8), "b": pytest.approx(3 / 8)}
    assert accuracy.macro_strict.value == pytest.approx(9 / 16)


def test_every_benchmark_names_its_licence():
    for name, benchmark in REWARD_MODEL_BENCHMARKS.items():
        assert benchmark.name == name
        module = __import__(benchmark.read.__module__, fromlist=["_"])
        assert benchmark.licence in module.__doc__ or name == "preference"

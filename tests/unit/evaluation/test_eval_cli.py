"""`editr1 eval` from the command line: run directories, resuming, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from eval_helpers import RM, files, result_of

from editr1.evaluation import prompts
from editr1.judges import ChatReply, ReplyStatus, ScriptedJudge
from editr1.stickers.draw import draw
from editr1.stickers.tasks import sample_task

FAILED = ChatReply(ReplyStatus.ERROR, error="the service is down")


def test_a_second_run_judges_nothing_and_changes_nothing(editr1, pairs, honest):
    data = pairs(4)
    editr1.judge = honest
    first = editr1(*RM, data)
    assert first.code == 0
    assert "100.0 %" in first.out
    assert "8 new judgements" in first.err
    before = files(Path("run"))
    assert set(before) == {
        *("config.json", "environment.json", "judge.json", "judgements.jsonl"),
        *("manifest.json", "pairs.jsonl", "result.json"),
    }
    editr1.judge = None
    second = editr1(*RM, data)
    assert (second.code, editr1.built) == (0, 1)
    assert "0 new judgements, 8 from before" in second.err
    assert files(Path("run")) == before
    assert second.out == first.out


def test_the_manifest_says_all_that_a_comparison_needs(editr1, pairs, honest):
    editr1.judge = honest
    editr1(*RM, pairs(4), "--seed", 5, "--temperature", 0.2)
    manifest = result_of("run")["manifest"]
    assert manifest["judge"]["judge"] == "honest"
    assert manifest["judge"]["fingerprint"] == "scripted:honest"
    assert len(manifest["judge"]["prompt_hash"]) == 12
    assert manifest["judge"]["passes"] == 1
    assert set(manifest["judge"]["sampling"]) == {"max_tokens", "temperature", "top_p", "seed"}
    assert manifest["image_sizes"] == {
        "smallest": [32, 32],
        "largest": [32, 32],
        "most_common": [32, 32],
        "different": 1,
    }
    assert len(manifest["data"]["hash"]) == 16
    assert manifest["seed"] == 5
    assert len(manifest["code"]) == 1
    assert manifest == json.loads(Path("run/manifest.json").read_text())


def test_an_interrupted_run_goes_on_where_it_stopped(editr1, pairs, kit, honest):
    data = pairs(6)
    editr1.judge = ScriptedJudge(honest._replies, name="honest", fail_after=5)
    broken = editr1(*RM, data)
    assert broken.code == 2
    assert "breaks down after 5" in broken.err
    assert len(Path("run/judgements.jsonl").read_text().splitlines()) == 5
    with Path("run/judgements.jsonl").open("a") as file:
        file.write('{"id": "torn')
    editr1.judge = honest
    whole = editr1(*RM, data)
    assert whole.code == 0
    assert "7 new judgements, 5 from before" in whole.err
    assert len(honest.requests) == 7
    assert result_of("run")["official"]["accuracy"]["value"] == 1.0


def test_failures_of_one_call_in_ten_change_the_count_and_not_the_accuracy(editr1, pairs, kit):
    """A judge that errs in 20 % of pairs and fails on 10 % of calls: accuracy 0.8 within the interval all the same."""
    rng = Random(11)
    wrong = {f"edit number {i}" for i in range(150) if rng.random() < 0.2}

    def answer(request):
        if rng.random() < 0.1:
            return kit.refusal()
        value = kit.worth(kit.shown(request)[-1])
        turned = any(f"was: {w}\n" in kit.said(request) for w in wrong)
        return kit.ratings(10 - value if turned else value)

    editr1.judge = ScriptedJudge(answer)
    outcome = editr1(*RM, pairs(150))
    assert outcome.code == 1
    found = result_of("run")
    overall = found["dimensions"]["overall"]
    assert overall["strict"]["low"] <= 0.8 <= overall["strict"]["high"]
    assert overall["strict"]["items"] + overall["failed"] == 150
    assert found["failures"] == {"refused": sum(not r for r in _scores())}
    assert 15 <= found["failures"]["refused"] <= 45
    assert "refused" in outcome.out
    asked = len(editr1.judge.requests)
    editr1(*RM, pairs(150))
    assert len(editr1.judge.requests) == asked, "a refusal is a result: it is not asked again"
    editr1(*RM, pairs(150), "--retry-failed")
    assert len(editr1.judge.requests) > asked


def _scores():
    return ["score" in json.loads(line) for line in Path("run/judgements.jsonl").read_text().splitlines()]


def test_a_service_that_failed_is_asked_again_by_the_next_run(editr1, pairs, kit, honest):
    down = {3, 4}
    calls = iter(range(99))
    editr1.judge = ScriptedJudge(lambda r: FAILED if next(calls) in down else honest._replies(r), name="honest")
    assert editr1(*RM, pairs(4)).code == 1
    assert result_of("run")["failures"] == {"error": 2}
    outcome = editr1(*RM, pairs(4))
    assert "2 new judgements, 6 from before" in outcome.err
    assert (outcome.code, result_of("run")["failures"]) == (0, {})


def test_a_judge_that_is_gone_stops_the_run(editr1, pairs):
    editr1.judge = ScriptedJudge(lambda r: FAILED)
    outcome = editr1(*RM, pairs(4))
    assert outcome.code == 2
    assert "stopped answering (the service is down)" in outcome.err


def test_nothing_to_compute_is_exit_code_2(editr1, pairs):
    editr1.judge = ScriptedJudge(lambda r: "no idea")
    outcome = editr1(*RM, pairs(4))
    assert outcome.code == 2
    assert "no figure could be computed" in outcome.err
    assert result_of("run")["failures"] == {"unparseable": 8}


def test_bad_rows_are_told_and_make_exit_code_1(editr1, pairs, honest):
    data = pairs(3)
    with data.open("a") as file:
        file.write('{"id": "q"}\nnonsense\n')
    editr1.judge = honest
    outcome = editr1(*RM, data)
    assert outcome.code == 1
    assert "data.jsonl:4: the column source is missing; there are id" in outcome.err
    assert "2 of 5 rows are left out (2 row)" in outcome.err
    assert result_of("run")["manifest"]["read_from"]["left_out"] == {"row": 2}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--scorer", "scpq"), "was started with another scorer ('holistic'"),
        (("--passes", "3"), "was started with another passes"),
        (("--seed", "3"), "was started with another sampling, seed"),
    ],
)
def test_a_run_directory_is_bound_to_what_it_was_started_with(editr1, pairs, honest, arguments, why):
    editr1.judge = honest
    data = pairs(2)
    editr1(*RM, data)
    before = files(Path("run"))
    outcome = editr1(*RM, data, *arguments)
    assert outcome.code == 2
    assert why.replace("('holistic'", "(scorer was 'holistic'") in outcome.err
    assert files(Path("run")) == before


def test_a_run_directory_is_bound_to_what_a_prompt_says(editr1, pairs, honest):
    """Every judgement is there, and a former prompt's figures are no figures of this one."""
    shipped = Path(prompts.__file__).parent / "holistic.toml"
    words = shipped.read_text()
    Path("mine.toml").write_text(words)
    editr1.judge = honest
    data = pairs(2)
    assert editr1(*RM, data, "--template", "mine.toml").code == 0
    assert editr1(*RM, data, "--template", "mine.toml").code == 0
    Path("mine.toml").write_text(words.replace("Weigh three things", "Weigh these"))
    outcome = editr1(*RM, data, "--template", "mine.toml")
    assert outcome.code == 2
    assert "run was started with another contents of the prompt" in outcome.err


def test_a_run_directory_is_bound_to_the_weights_of_a_model(editr1, pairs, honest):
    """A model that was trained anew in its place is another judge, although nothing is left to be judged."""
    model = Path("model")
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"first")
    editr1.judge = honest
    data = pairs(2)
    for _ in range(2):
        assert editr1(*RM, data, "--model", "model").code == 0
    (model / "model.safetensors").write_bytes(b"other")
    outcome = editr1(*RM, data, "--model", "model")
    assert outcome.code == 2
    assert "run was started with another contents of the model" in outcome.err


def test_what_is_put_right_in_the_data_is_judged_anew_by_a_judge_of_pairs(editr1, kit, pairs):
    """Labels the wrong way round, then right: the former answers are of pictures in other places."""

    def answer(request):
        _, first, second = (kit.worth(i) for i in kit.shown(request))
        return f'{{"choice": "{"A" if first > second else "B"}"}}'

    editr1.judge = ScriptedJudge(answer)
    data = pairs(4)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    turned = [row | {"preferred": row["other"], "other": row["preferred"]} for row in rows]
    arguments = ("eval", "rm", "preference", "--scorer", "pairwise", "--data", data, "--out", "run")
    for given, accuracy in ((turned, 0.0), (rows, 1.0)):
        data.write_text("".join(json.dumps(row) + "\n" for row in given))
        outcome = editr1(*arguments)
        assert result_of("run")["official"]["accuracy"]["value"] == accuracy
        assert "4 new judgements" in outcome.err
    assert "0 new judgements, 4 from before" in editr1(*arguments).err


def test_other_principles_are_another_judgement(editr1, kit, pairs):
    def answer(request):
        met = int("Is it red?" in kit.said(request))
        checks = json.dumps([{"id": 1, "reason": "r", "score": met}])
        return f"seen\n{checks}\n<score>{10 * met}.0</score>"

    editr1.judge = ScriptedJudge(answer)
    data = pairs(2)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    hashes = []
    for question in ("Is it red?", "Is it blue?"):
        asked = {"principles": [{"question": question, "category": "Instruction Following"}]}
        data.write_text("".join(json.dumps(row | asked) + "\n" for row in rows))
        outcome = editr1("eval", "rm", "preference", "--data", data, "--out", "run")
        assert "4 new judgements" in outcome.err
        hashes.append(result_of("run")["manifest"]["data"]["hash"])
    assert hashes[0] != hashes[1]


def test_pictures_that_cannot_be_decoded_do_not_stop_a_second_run(editr1, kit, pairs, honest):
    """Their headers can be read, and no more: three in a row are no judge that is gone, and asking again mends none."""
    data = pairs(4)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    for row in rows[:3]:
        path = data.parent / row["other"]
        path.write_bytes(path.read_bytes()[:60])
    editr1.judge = honest
    first = editr1(*RM, data)
    assert first.code == 1
    before = files(Path("run"))
    second = editr1(*RM, data)
    assert second.code == 1
    assert files(Path("run")) == before
    assert (
        result_of("run")["dimensions"]["overall"]["pairs"]
        + sum(result_of("run")["manifest"]["read_from"]["left_out"].values())
        == 4
    )


def test_another_judge_is_refused_where_judgements_are_missing(editr1, pairs, honest):
    editr1.judge = honest
    editr1(*RM, pairs(3), "--limit", 2)
    editr1.judge = ScriptedJudge(honest._replies, name="another")
    outcome = editr1(*RM, pairs(3))
    assert outcome.code == 2
    assert "holds judgements of another judge (fingerprint, judge differ)" in outcome.err


def test_a_run_inside_the_data_is_not_read_as_data(editr1, pairs, honest):
    folder = pairs(3).parent
    editr1.judge = honest
    for _ in range(2):
        outcome = editr1(*RM[:-3], "--out", folder / "run", "--data", folder)
        assert (outcome.code, "left out" in outcome.err) == (0, False)
    assert "0 new judgements, 6 from before" in outcome.err


def test_a_higher_limit_goes_on(editr1, pairs, honest):
    editr1.judge = honest
    assert "4 new" in editr1(*RM, pairs(5), "--limit", 2).err
    assert "6 new judgements, 4 from before" in editr1(*RM, pairs(5)).err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("rm", "nonsense"), "benchmark 'nonsense' is none of editscore, tiger"),
        (("rm", "preference", "--scorer", "x"), "--scorer 'x' is none of verifier"),
        (("rm", "preference", "--scorer", "pairwise", "--passes", "2"), "a pairwise judge is asked once"),
        (("rm", "preference"), "there is no file or folder nowhere"),
        (("rm", "editscore"), "the hub has EditScore/EditReward-Bench"),
    ],
)
def test_bad_input_is_one_sentence(editr1, arguments, why):
    outcome = editr1("eval", *arguments, "--data", "nowhere", "--out", "run")
    assert outcome.code == 2
    assert why in outcome.err


def test_published_figures_are_marked_as_published(editr1, kit, honest, write_rows):
    row = {
        "key": ["1", "2"],
        "instruction": "x",
        "input_image": kit.picture(0, 1),
        "output_images": [kit.picture(7, 2), kit.picture(3, 3)],
        "task_type": "extract",
        "dimension": "overall",
    }
    editr1.judge = honest
    outcome = editr1("eval", "rm", "editscore", "--scorer", "holistic", "--data", write_rows([row]), "--out", "run")
    assert "GPT-5 (published)" in outcome.out
    assert "75.5 %" in outcome.out
    assert "78.2 %" in outcome.out
    names = {p["name"] for p in result_of("run")["published"]}
    assert "Edit-R1 RRM 7B, SFT + GCPO" in names
    assert "only 1 of 13 tasks: no official figure" in outcome.out


def test_non_commercial_data_is_warned_of(editr1, tmp_path):
    outcome = editr1("eval", "rm", "mmrb2", "--data", "nowhere", "--out", "run")
    assert "CC BY-NC 4.0: not for commercial use" in outcome.err


def test_a_pairwise_judge_is_shown_no_fixed_order(editr1, pairs, kit):
    def answer(request):
        _, first, second = (kit.worth(i) for i in kit.shown(request))
        return f'{{"choice": "{"A" if first > second else "B"}"}}'

    editr1.judge = ScriptedJudge(answer)
    arguments = ["eval", "rm", "preference", "--data", pairs(12), "--scorer", "pairwise"]
    outcome = editr1(*arguments, "--one-order", "--out", "one")
    assert result_of("one")["official"]["accuracy"]["value"] == 1.0
    assert len({kit.worth(kit.shown(r)[1]) for r in editr1.judge.requests}) == 2
    outcome = editr1(*arguments, "--out", "both")
    assert "100.0 % [73.5, 100.0] consistent, 0 inconsistent" in outcome.out  # 0.025 ** (1 / 12) = 0.735
    assert len(editr1.judge.requests) == 12 + 24


def test_the_verifier_asks_both_edits_the_same_questions_even_when_resumed(editr1, pairs, kit):
    """The judge makes other principles each time it is asked: a context whose first edit is judged keeps its own."""
    calls = []

    def answer(request):
        calls.append(request)
        if len(kit.shown(request)) == 1:
            names = [f"Is it right, draw {len(calls)}, point {k}?" for k in range(3)]
            return json.dumps([{"question": n, "category": "Instruction Following"} for n in names])
        value = kit.worth(kit.shown(request)[-1])
        checks = [{"id": k, "reason": "r", "score": 1} for k in (1, 2, 3)]
        return f"seen\n{json.dumps(checks)}\n<score>{value:.1f}</score>"

    arguments = ("eval", "rm", "preference", "--data", pairs(1), "--out", "run")
    editr1.judge = ScriptedJudge(answer, fail_after=2)
    assert editr1(*arguments).code == 2
    editr1.judge = ScriptedJudge(answer)
    assert editr1(*arguments).code == 0
    lines = [json.loads(line) for line in Path("run/judgements.jsonl").read_text().splitlines()]
    first, second = ([c["question"] for c in line["checks"]] for line in lines)
    assert first == second
    assert len(calls) == 3


def test_two_judges_are_compared_pair_by_pair(editr1, pairs, kit, honest):
    data = pairs(10)
    editr1.judge = honest
    editr1(*RM[:-3], "--out", "good", "--data", data)
    editr1.judge = ScriptedJudge(
        lambda r: kit.ratings(10 - kit.worth(kit.shown(r)[-1]) if "number 1\n" in kit.said(r) else 5), name="poor"
    )
    editr1(*RM[:-3], "--out", "poor", "--data", data)
    outcome = editr1("eval", "paired", "poor", "good")
    assert outcome.code == 0
    assert "10 pairs that both answered, 0 left out" in outcome.out
    assert "only the first right: 0, only the second: 10; exact McNemar test p = 0.00195" in outcome.out
    assert "+100.0 points" in outcome.out
    assert outcome.err == ""
    editr1.judge = honest
    editr1(*RM[:-3], "--out", "less", "--data", data, "--limit", 4)
    outcome = editr1("eval", "paired", "poor", "less")
    assert "do not compare: data differs" in outcome.err
    assert editr1("eval", "paired", "poor", "nowhere").code == 2


def test_gsb_from_the_command_line(editr1, tmp_path):
    marks = "".join(f"c{i},ann,{c}\n" for i, c in enumerate(["good"] * 6 + ["same"] * 3 + ["bad"]))
    Path("marks.csv").write_text("context,annotator,choice\n" + marks)
    outcome = editr1("eval", "gsb", "marks.csv", "--out", "gsb.json")
    assert outcome.code == 0
    assert "GSB +50.0" in outcome.out
    assert "p = 0.125" in outcome.out
    data = json.loads(Path("gsb.json").read_text())
    assert data["gsb"]["gsb"]["value"] == pytest.approx(0.5)
    assert data["agreement"]["alpha_nominal"] is None
    with Path("marks.csv").open("a") as file:
        file.write("c0,ann,bad\n")
    outcome = editr1("eval", "gsb", "marks.csv")
    assert outcome.code == 1
    assert "ann marked c0 as good and as bad; it does not count" in outcome.err
    assert editr1("eval", "gsb", "nowhere.csv").code == 2


def test_gsb_of_two_editors_by_their_judge(editr1):
    """Six tasks: the old editor does nothing, the new one is right on the first four and does nothing on the others.

    Good 4, same 2: GSB 4 / 6; four contexts one way, exact sign test 2 / 2^4 = 0.125.
    """
    for name in ("old", "new"):
        for index in range(6):
            task = sample_task("unit-gsb", index)
            place = Path(name) / task.kind.value / f"{index}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            draw(task.after if name == "new" and index < 4 else task.before).save(place)
        arguments = ("--data", "unit-gsb:6", "--images", name, "--out", f"run-{name}", "--name", name)
        assert editr1("eval", "editor", "stickers", *arguments).code == 0
    outcome = editr1("eval", "gsb", "run-old", "run-new", "--margin", 0.5, "--out", "gsb.json")
    assert outcome.code == 0, outcome.err
    assert "good 4, same 2, bad 0, on 6 contexts" in outcome.out
    assert "p = 0.125" in outcome.out
    assert "kappa" not in outcome.out
    assert outcome.err == ""
    found = json.loads(Path("gsb.json").read_text())
    assert found["gsb"]["gsb"]["value"] == pytest.approx(4 / 6)
    assert (found["old"], found["new"], found["margin"]) == ("run-old", "run-new", 0.5)
    outcome = editr1("eval", "gsb", "run-new", "--margin", 0.5)
    assert outcome.code == 2
    assert "--margin and --language are for two runs" in outcome.err
    next(Path("new").rglob("5.png")).unlink()
    editr1("eval", "editor", "stickers", "--data", "unit-gsb:6", "--images", "new", "--out", "run-less")
    outcome = editr1("eval", "gsb", "run-old", "run-less")
    assert "on 5 contexts" in outcome.out
    assert "1 tasks are in one run only, 0 lack a score" in outcome.err


def test_an_editor_from_the_command_line(editr1, kit, write_rows, tmp_path):
    folder = tmp_path / "out" / "fullset" / "text_change" / "en"
    folder.mkdir(parents=True)
    rows = []
    for n in range(3):
        (folder / f"k{n}.png").write_bytes(kit.picture(n + 4, n))
        rows.append(
            {
                "task_type": "text_change",
                "key": f"k{n}",
                "instruction": "x",
                "instruction_language": "en",
                "input_image": kit.picture(0, n),
                "Intersection_exist": n < 2,
            }
        )
    editr1.judge = ScriptedJudge(lambda r: kit.ratings(*[kit.worth(kit.shown(r)[-1])] * 2))
    arguments = ("eval", "editor", "gedit", "--data", write_rows(rows), "--images", "out", "--out", "run")
    first = editr1(*arguments, "--name", "mine")
    assert first.code == 0
    assert "5.00" in first.out
    assert "only 1 of 11 categories: no official figure" in first.out
    assert "mean of 1 categories" in first.out
    assert "published" not in first.out
    assert len(editr1.judge.requests) == 6
    before = files(Path("run"))
    assert editr1(*arguments, "--name", "mine").code == 0
    assert len(editr1.judge.requests) == 6
    assert files(Path("run")) == before
    (folder / "k1.png").unlink()
    outcome = editr1(*arguments[:-1], "other")
    assert outcome.code == 1
    assert "1 of 3 rows are left out (1 picture)" in outcome.err
    assert editr1("eval", "editor", "gedit", "--data", "x", "--images", "nowhere", "--out", "third").code == 2
    assert editr1("eval", "editor", "x", "--data", "x", "--images", "out", "--out", "third").code == 2

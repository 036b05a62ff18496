import math
from random import Random

import pytest

from editr1.errors import ConfigError, JudgeError, VerdictParseError
from editr1.evaluation.benchmarks import Pair, PictureStore
from editr1.evaluation.judgements import Edit, Judgement, JudgementFile, combine_passes
from editr1.evaluation.metrics import Choice
from editr1.evaluation.pairwise import PairwiseScorer, read_choice, second_shown_first
from editr1.evaluation.prompts import load_pair_prompt, load_rating_prompt, names
from editr1.evaluation.scorers import RatingScorer, VerifierScorer, read_ratings
from editr1.judges import ChatReply, ReplyStatus, Sampling, ScriptedJudge
from editr1.types import Category, Check, Principle, Usage, VerdictStatus
from editr1.verifier import Verifier

OK, UNPARSEABLE, REFUSED = VerdictStatus.OK, VerdictStatus.UNPARSEABLE, VerdictStatus.REFUSED


def reply(text, status=ReplyStatus.OK):
    return ChatReply(status, text)


def score_all(scorer, edits):
    found = {}
    scorer.score_many(edits, on_judgement=lambda index, judgement: found.setdefault(index, judgement))
    return [found[i] for i in range(len(edits))]


@pytest.fixture
def edit(kit):
    def make(value, tag=1, **more):
        return Edit(f"e{tag}", kit.picture(0, tag), kit.picture(value, tag + 50), f"do $this {tag}", **more)

    return make


def by_prompt(kit, sc, pq):
    """A judge that gives these numbers when it sees two pictures, and those when it sees one."""
    return ScriptedJudge(lambda request: kit.ratings(*(sc if len(kit.shown(request)) == 2 else pq)))


def test_scpq_by_hand(kit, edit):
    """SC = min(8, 6) = 6, PQ = min(9, 4) = 4, O = sqrt(24)."""
    judge = by_prompt(kit, (8, 6), (9, 4))
    (judgement,) = score_all(RatingScorer(judge, load_rating_prompt("scpq")), [edit(5)])
    assert judgement.status is OK
    assert judgement.score == pytest.approx(math.sqrt(24))
    assert judgement.parts == {
        "prompt_following": 8,
        "consistency": 6,
        "SC": 6,
        "naturalness": 9,
        "artifacts": 4,
        "PQ": 4,
    }
    assert judgement.usage.calls == 2
    assert [len(kit.shown(r)) for r in judge.requests] == [2, 1]
    assert "do $this 1" in kit.said(judge.requests[0])


def test_a_zero_in_either_makes_the_overall_zero(kit, edit):
    (judgement,) = score_all(RatingScorer(by_prompt(kit, (0, 9), (9, 9)), load_rating_prompt("scpq")), [edit(5)])
    assert judgement.score == 0


def test_imgedit_is_a_mean_and_tells_the_judge_what_matters(kit, edit):
    judge = by_prompt(kit, (5, 4, 2), ())
    prompt = load_rating_prompt("imgedit")
    edits = [edit(5, 1, kind="remove"), edit(5, 2, kind="unheard of")]
    first, second = score_all(RatingScorer(judge, prompt), edits)
    assert first.score == second.score == pytest.approx(11 / 3)
    assert prompt.criteria["remove"] in kit.said(judge.requests[0])
    assert prompt.criteria["other"] in kit.said(judge.requests[1])


def test_a_failed_call_is_no_number(kit, edit):
    judge = ScriptedJudge(lambda r: kit.ratings(9, 9) if len(kit.shown(r)) == 2 else kit.refusal())
    (judgement,) = score_all(RatingScorer(judge, load_rating_prompt("scpq")), [edit(5)])
    assert (judgement.status, judgement.score, judgement.parts) == (REFUSED, None, {})
    assert judgement.value("SC") is None


def test_an_unreadable_answer_is_asked_again_then_given_up(kit, edit):
    judge = ScriptedJudge(["nothing", "nothing", kit.ratings(7)])
    (judgement,) = score_all(RatingScorer(judge, load_rating_prompt("holistic"), max_tries=3), [edit(5)])
    assert judgement.score == 7
    judge = ScriptedJudge(["nothing"] * 3)
    (judgement,) = score_all(RatingScorer(judge, load_rating_prompt("holistic"), max_tries=3), [edit(5)])
    assert judgement.status is UNPARSEABLE
    assert judgement.reasoning == "nothing"


def test_passes_are_averaged_and_drawn_warm(kit, edit):
    """Scores 4, 6, failed: mean 5, spread 1, over two of three passes."""
    lines = {0: kit.ratings(4), 1: kit.ratings(6), 2: "nothing"}
    judge = ScriptedJudge(lambda r: lines[r.fresh])
    scorer = RatingScorer(judge, load_rating_prompt("holistic"), passes=3, max_tries=1)
    (judgement,) = score_all(scorer, [edit(5)])
    assert (judgement.score, judgement.spread, judgement.passes) == (5, 1, 2)
    assert {r.sampling.temperature for r in judge.requests} == {0.7}
    lines[1] = "nothing"
    (judgement,) = score_all(scorer, [edit(5)])
    assert judgement.status is UNPARSEABLE
    assert "2 of 3 passes failed" in judgement.error


def test_one_pass_is_left_as_it_is():
    judgement = Judgement("x", OK, 3.0)
    assert combine_passes([judgement]) is judgement


def test_a_picture_that_cannot_be_decoded_is_a_failure_in_its_place(kit, edit):
    torn = Edit("torn", kit.picture(0, 1), kit.picture(5, 2)[:200], "x")
    judge = by_prompt(kit, (8,), ())
    judgements = score_all(RatingScorer(judge, load_rating_prompt("holistic")), [edit(5), torn, edit(6, 3)])
    assert [j.status for j in judgements] == [OK, VerdictStatus.ERROR, OK]
    assert len(judge.requests) == 2


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ('{"scores": [1, 2.5]}', [1, 2.5]),
        ('First {"scores": [0, 0]} no: ```json\n{"reasoning": "it\'s {fine}", "scores": [8, 9]}\n```', [8, 9]),
        ('{"score": ["7", 10]}', [7, 10]),
        ('<think>{"scores": [1, 1]}</think>{"scores": [2, 2]}', [2, 2]),
    ],
)
def test_ratings_are_read(text, numbers):
    assert read_ratings(reply(text), 2, 0, 10) == numbers


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("8 and 9", "no score"),
        ('{"scores": [8]}', "no score"),
        ('{"scores": [8, 9, 9]}', "no score"),
        ('{"scores": [8, 11]}', "score out of range"),
        ('{"scores": [8, -1]}', "score out of range"),
        ('{"scores": [8, NaN]}', "score out of range"),
        ('{"scores": [8, true]}', "no score"),
        ('{"scores": [8, "good"]}', "no score"),
        (" ", "empty"),
    ],
)
def test_what_is_no_rating_is_never_made_one(text, fault):
    with pytest.raises(VerdictParseError) as caught:
        read_ratings(reply(text), 2, 0, 10)
    assert caught.value.fault == fault


def test_a_truncated_answer_is_no_rating():
    with pytest.raises(VerdictParseError, match="truncated"):
        read_ratings(reply('{"scores": [8, 9]}', ReplyStatus.TRUNCATED), 2, 0, 10)


def test_the_verifier_is_a_scorer_like_the_others(kit, edit):
    principles = (Principle("Is it red?", Category.FOLLOW), Principle("Is the rest as before?", Category.KEEP))
    text = 'seen\n[{"id": 1, "reason": "r", "score": 1}, {"id": 2, "reason": "r", "score": 0}]\n<score>6.5</score>'
    scorer = VerifierScorer(Verifier(ScriptedJudge([text]), template="compact"))
    (judgement,) = score_all(scorer, [edit(5, principles=principles)])
    assert judgement.score == 6.5
    assert judgement.parts == {"Follow": 1.0, "Keep": 0.0}
    assert [c.principle for c in judgement.checks] == list(principles)
    described = scorer.describe()
    assert described["prompt"] == "compact"
    assert len(described["prompt_hash"]) == 12


# Pairs


@pytest.fixture
def pair(kit, tmp_path):
    store = PictureStore(tmp_path / "pictures")

    def make(number, first, second, label=Choice.FIRST):
        pictures = [
            store.take(kit.picture(v, number + t), tmp_path, "x") for v, t in ((0, 0), (first, 300), (second, 600))
        ]
        return Pair(f"p{number}", pictures[0], "do it", pictures[1], pictures[2], label)

    return make


def compare_all(scorer, pairs):
    found = {}
    scorer.compare_many(pairs, on_judgement=lambda index, judgement: found.setdefault(index, judgement))
    return [found[i] for i in range(len(pairs))]


def by_worth(kit, error_rate=0.0, seed=0):
    rng = Random(seed)

    def answer(request):
        _, first, second = (kit.worth(i) for i in kit.shown(request))
        right = "tie" if first == second else "A" if first > second else "B"
        wrong = {"A": "B", "B": "A"}.get(right, "A")
        return f'{{"reasoning": "", "choice": "{wrong if rng.random() < error_rate else right}"}}'

    return ScriptedJudge(answer)


def test_a_fair_pairwise_judge_is_right_whatever_the_order(kit, pair):
    pairs = [pair(1, 8, 2), pair(2, 2, 8), pair(3, 5, 5)]
    judge = by_worth(kit)
    judgements = compare_all(PairwiseScorer(judge, load_pair_prompt()), pairs)
    assert [j.choice for j in judgements] == list(Choice)
    assert all(j.orders == (j.choice, j.choice) for j in judgements)
    assert len(judge.requests) == 6


def test_a_judge_that_always_says_a_is_inconsistent_and_ties(kit, pair):
    judgements = compare_all(
        PairwiseScorer(ScriptedJudge(lambda r: '{"choice": "A"}'), load_pair_prompt()), [pair(1, 8, 2)]
    )
    assert judgements[0].choice is Choice.SAME
    assert judgements[0].orders == (Choice.FIRST, Choice.SECOND)


def test_one_order_is_drawn_by_seed_about_evenly(kit, pair):
    pairs = [pair(n, 8, 2) for n in range(6)]
    judge = by_worth(kit)
    judgements = compare_all(PairwiseScorer(judge, load_pair_prompt(), both_orders=False), pairs)
    assert len(judge.requests) == 6
    assert all(j.choice is Choice.FIRST and j.orders.count(None) == 1 for j in judgements)
    swapped = [second_shown_first(f"p{n}", 0) for n in range(1000)]
    assert 440 < sum(swapped) < 560
    assert swapped != [second_shown_first(f"p{n}", 1) for n in range(1000)]


def test_a_failure_in_one_order_is_a_failure(kit, pair):
    lines = ['{"choice": "A"}', kit.refusal()]
    (judgement,) = compare_all(PairwiseScorer(ScriptedJudge(lines), load_pair_prompt()), [pair(1, 8, 2)])
    assert (judgement.status, judgement.choice) == (REFUSED, None)
    assert judgement.orders.count(None) == 1


def test_the_words_follow_the_dimension(kit, pair):
    from dataclasses import replace

    judge = by_worth(kit)
    prompt = load_pair_prompt()
    compare_all(PairwiseScorer(judge, prompt), [replace(pair(1, 8, 2), dimension="consistency")])
    assert prompt.criteria["consistency"] in kit.said(judge.requests[0])


@pytest.mark.parametrize("text", ['{"choice": "C"}', "A", "", '{"choice": null}'])
def test_what_is_no_choice_is_never_made_one(text):
    with pytest.raises(VerdictParseError):
        read_choice(reply(text))


@pytest.mark.parametrize(("word", "choice"), [("a", Choice.FIRST), ("Result B", Choice.SECOND), ("Tie", Choice.SAME)])
def test_choices_are_read(word, choice):
    assert read_choice(reply(f'{{"choice": "{word}"}}')) is choice


# Prompts and files


def test_prompts_load_and_have_hashes_of_their_content(tmp_path):
    assert names() == ["holistic", "imgedit", "pairwise", "scpq"]
    hashes = {load_rating_prompt(n).hash for n in ("holistic", "imgedit", "scpq")} | {load_pair_prompt().hash}
    assert len(hashes) == 4
    own = tmp_path / "own.toml"
    source = (load_rating_prompt.__globals__["_FOLDER"] / "scpq.toml").read_text()
    own.write_text(source)
    assert load_rating_prompt(own).hash == load_rating_prompt("scpq").hash
    changed = tmp_path / "changed.toml"
    changed.write_text(source.replace("beautiful", "pretty"))
    assert load_rating_prompt(changed).hash != load_rating_prompt("scpq").hash


@pytest.mark.parametrize(
    ("text", "why"),
    [(None, "no prompt"), ("x = [", "is not TOML"), ("x = 1", "is no RatingPrompt")],
)
def test_a_bad_prompt_is_an_error(tmp_path, text, why):
    path = tmp_path / f"{why.replace(' ', '-')}.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=why):
        load_rating_prompt(path)


GOOD_PROMPT = """
name = "own"
low = 0
high = 10
within = "min"
[[calls]]
name = "SC"
pictures = ["source", "edited"]
parts = ["a", "b"]
system = "Rate."
text = "It costs $$5: $instruction"
[[calls]]
name = "PQ"
pictures = ["edited"]
parts = ["c"]
system = "Rate."
text = "How good?"
"""


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("$$5", "$5", "text of the call SC has a \\$ that begins no name: write"),
        ("How good?", "How good is $kind?", "text of the call PQ has \\$kind: only"),
        ("$instruction", "the instruction", "instruction is in none of the texts"),
        ("high = 10", "high = 0", "low must be below high, got 0 and 0"),
        ('parts = ["c"]', "parts = []", "the call PQ must name at least one of parts"),
        ('pictures = ["edited"]', "pictures = []", "the call PQ must name at least one of parts and one of pictures"),
        ('parts = ["c"]', 'parts = ["a"]', "a names two numbers"),
        (GOOD_PROMPT[GOOD_PROMPT.index("[[calls]]") :], "calls = []", "calls is empty"),
    ],
)
def test_a_prompt_that_cannot_be_asked_with_is_an_error(tmp_path, kit, edit, old, new, why):
    path = tmp_path / "own.toml"
    path.write_text(GOOD_PROMPT)
    judge = ScriptedJudge(lambda request: kit.ratings(*[5] * (1 if "How good" in kit.said(request) else 2)))
    (judgement,) = score_all(RatingScorer(judge, load_rating_prompt(path)), [edit(5)])
    assert judgement.score == 5
    assert "It costs $5: " in kit.said(judge.requests[0])
    assert old in GOOD_PROMPT
    path.write_text(GOOD_PROMPT.replace(old, new))
    with pytest.raises(ConfigError, match=why):
        load_rating_prompt(path)


def test_a_prompt_for_pairs_must_say_what_was_asked_for(tmp_path):
    source = (load_pair_prompt.__globals__["_FOLDER"] / "pairwise.toml").read_text()
    path = tmp_path / "own.toml"
    path.write_text(source.replace("$instruction", "unknown"))
    with pytest.raises(ConfigError, match="instruction is in none of the texts"):
        load_pair_prompt(path)


def test_judgements_come_back_from_disk_as_they_were(tmp_path):
    path = tmp_path / "judgements.jsonl"
    whole = Judgement(
        "a",
        OK,
        5.5,
        {"SC": 5.0},
        reasoning="seen\u2028and thought",
        usage=Usage(1, 2, 3, 4),
        seconds=1.5,
        checks=(Check(Principle("Is it?", Category.KEEP), True, "yes"),),
        spread=0.5,
        passes=3,
        preprocessing=("edited: resized",),
    )
    choice = Judgement("b", OK, choice=Choice.SAME, orders=(Choice.FIRST, None))
    failed = Judgement("c", REFUSED, error="no")
    file = JudgementFile(path)
    for judgement in (failed, whole, choice):
        file.append(judgement)
    file.close()
    with path.open("a") as torn:
        torn.write('{"id": "d", "sta')
    again = JudgementFile(path)
    assert again.judgements == {"a": whole, "b": choice, "c": failed}
    again.append(Judgement("c", OK, 1.0))
    again.finish(["a", "b", "c"])
    assert [line[:9] for line in path.read_text().split("\n")] == ['{"id": "a', '{"id": "b', '{"id": "c', ""]
    assert JudgementFile(path).judgements["c"].score == 1.0


def test_a_scripted_breakdown_keeps_what_was_said_before(kit, edit):
    judge = ScriptedJudge(lambda r: kit.ratings(7), fail_after=2)
    kept = []
    with pytest.raises(JudgeError):
        RatingScorer(judge, load_rating_prompt("holistic"), sampling=Sampling(seed=3)).score_many(
            [edit(1, n) for n in range(4)], on_judgement=lambda index, judgement: kept.append(index)
        )
    assert kept == [0, 1]

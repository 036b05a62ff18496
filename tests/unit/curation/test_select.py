"""Selection by hand-made sources: who is drawn, who is let pass, who is quarantined."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence

import pytest

from editr1.curation.prompts import load_prompt
from editr1.curation.records import Context, Reject, StageResult
from editr1.curation.select import draw_order, filter_hard, parse_hardness, plan_selection, read_picks
from editr1.datasets.contexts import ContextRow
from editr1.datasets.edits import BadRow
from editr1.errors import VerdictParseError
from editr1.judges import ChatReply, ReplyStatus, Sampling, ScriptedJudge

HARD = '{"reason": "two steps", "kinds": ["multi-step"], "keep": true}'
SIMPLE = '{"reason": "one plain change", "kinds": [], "keep": false}'


class Rows:
    """A source of `count` contexts with pictures of their own; some can be spoilt."""

    name = "rows"
    fingerprint = "rows"

    def __init__(self, make, count: int, spoilt: Collection[int] = (), twins: dict[int, int] | None = None) -> None:
        self.make, self.count, self.spoilt, self.twins = make, count, set(spoilt), twins or {}
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.count

    def rows(self, positions: Collection[int] | None = None) -> Iterator[ContextRow | BadRow]:
        for position in range(self.count) if positions is None else sorted(positions):
            self.read.append(position)
            like = self.twins.get(position, position)
            picture = b"no picture" if position in self.spoilt else self.make.png(f"#{like:02x}1122")
            yield ContextRow(position, f"r{position}", f"n{position}", picture, f"Do {like}.")


def test_the_order_is_a_permutation_that_the_seed_alone_decides() -> None:
    assert sorted(draw_order(500, 3)) == list(range(500))
    assert draw_order(500, 3) == draw_order(500, 3) != draw_order(500, 4)
    # pinned: a data set that was drawn with a seed must be drawn again with it, whatever the versions of libraries
    assert draw_order(8, 0) == [4, 0, 6, 7, 2, 1, 5, 3]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty"),
        ("It is hard.", "bad json"),
        ('{"keep": "maybe", "reason": "x", "kinds": []}', "bad check value"),
        ('{"keep": 1, "reason": "x", "kinds": ["implicit"]}', "bad check value"),
        ('{"keep": true, "reason": "x", "kinds": []}', "bad check value"),
        ('{"keep": true, "reason": "x", "kinds": ["tricky"]}', "bad check value"),
        ('{"keep": false, "kinds": []}', "no checks"),
        ('{"keep": false, "reason": "  "}', "no checks"),
    ],
)
def test_what_is_no_answer_is_an_error(text: str, fault: str) -> None:
    with pytest.raises(VerdictParseError) as caught:
        parse_hardness(text)
    assert caught.value.fault == fault


def test_an_answer_in_a_fence_after_a_draft_is_read() -> None:
    text = f"<think>{SIMPLE}</think>\n```json\n{HARD}\n```"
    found = parse_hardness(text)
    assert (found.keep, found.reason, found.kinds) == (True, "two steps", ("multi-step",))


def test_only_hard_ones_pass_and_every_other_is_rejected_with_its_reason(make) -> None:
    replies = [HARD, SIMPLE, ChatReply(ReplyStatus.REFUSED, error="no"), "rubbish", "rubbish again"]
    judge = ScriptedJudge(replies)
    contexts = [make.context(n) for n in range(4)]
    result = filter_hard(contexts, judge=judge, prompt=load_prompt("select"), sampling=Sampling(64), max_tries=2)
    assert [(c.id, c.subset, c.reason) for c in result.records] == [("c0", "hard", "multi-step: two steps")]
    assert [(r.id, r.kind) for r in result.rejects] == [("c1", "simple"), ("c2", "refused"), ("c3", "unparseable")]
    assert result.rejects[0].detail == "one plain change"
    shown = judge.requests[1].messages[1].content
    assert shown[0].image.getpixel((0, 0)) == (1, 0x40, 0x80)
    assert "Paint star 1 red." in shown[1].text


def even_pass(name: str, contexts: Sequence[Context]) -> StageResult[Context]:
    """Lets those with an even number pass."""
    result: StageResult[Context] = StageResult()
    for c in contexts:
        if int(c.instruction.removeprefix("Do ").rstrip(".")) % 2 == 0:
            result.records.append(c)
        else:
            result.rejects.append(Reject(c.id, "simple"))
    return result


def test_the_random_subset_is_the_first_in_the_drawn_order(make) -> None:
    plan = plan_selection(Rows(make, 20), random=5, hard=0, seed=7)
    assert [p.position for p in plan.picks] == sorted(draw_order(20, 7)[:5])
    assert {p.subset for p in plan.picks} == {"random"}


@pytest.mark.parametrize("pass_rate", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_hard_subset_is_the_first_that_pass_however_rounds_are_cut(make, pass_rate: float, batch: int) -> None:
    order = draw_order(30, 1)
    expected = [p for p in order[4:] if p % 2 == 0][:6]
    plan = plan_selection(
        Rows(make, 30), random=4, hard=6, seed=1, pass_rate=pass_rate, batch=batch, filter_batch=even_pass
    )
    assert sorted(p.position for p in plan.picks if p.subset == "hard") == sorted(expected)
    assert sorted(p.position for p in plan.picks if p.subset == "random") == sorted(order[:4])


def test_bad_rows_are_replaced_and_quarantined_with_reasons(make) -> None:
    order = draw_order(12, 0)
    spoilt, twin = order[1], order[3]
    source = Rows(make, 12, spoilt=[spoilt], twins={twin: order[0]})
    plan = plan_selection(source, random=5, hard=0, seed=0)
    assert len(plan.picks) == 5
    assert {spoilt, twin}.isdisjoint(p.position for p in plan.picks) or order[0] not in {
        p.position for p in plan.picks
    }  # of twins, the one that stands first in the source stays
    assert sorted(r.kind for r in plan.rejects) == ["duplicate", "unreadable"]
    assert plan.looked_at == 7


def test_a_small_source_gives_what_it_has(make) -> None:
    plan = plan_selection(Rows(make, 6), random=2, hard=50, seed=0, filter_batch=even_pass)
    assert sum(p.subset == "hard" for p in plan.picks) == sum(p % 2 == 0 for p in draw_order(6, 0)[2:])


def test_picks_are_read_back_as_contexts(make) -> None:
    source = Rows(make, 9)
    plan = plan_selection(source, random=2, hard=1, seed=0, filter_batch=even_pass)
    source.read.clear()
    contexts = list(read_picks(source, plan.picks))
    assert source.read == [p.position for p in plan.picks]  # nothing else is opened
    assert [c.subset for c in contexts] == [p.subset for p in plan.picks]
    assert [c.origin for c in contexts] == [f"rows:r{p.position}" for p in plan.picks]
    assert len({c.id for c in contexts}) == 3


def test_the_prompt_asks_for_what_the_parser_reads() -> None:
    prompt = load_prompt("select")
    example = next(line for line in prompt.texts["system"].splitlines() if line.startswith("{"))
    assert parse_hardness(json.dumps(json.loads(example))).kinds == ("multi-step",)

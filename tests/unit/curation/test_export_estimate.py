"""What is exported in each mode, and what a run is reckoned to take."""

from __future__ import annotations

from pathlib import Path

import pytest

from editr1.curation.estimate import CHARACTERS_PER_TOKEN, estimate
from editr1.curation.export import answer_in, export, in_holdout, unverified_trace
from editr1.curation.records import Chosen, Verified
from editr1.curation.workshop import Workshop
from editr1.types import Check
from editr1.verifier.parse import parse_principles, parse_verdict
from editr1.verifier.template import load_template


@pytest.fixture
def record(make) -> Chosen:
    """Gold 110; the second of the whole traces agrees best, the first is not whole."""
    traces = (make.failed_trace(), make.trace("001", 9.5, reasoning="WRONG"), make.trace("111", 6, reasoning="RIGHT"))
    gold = tuple(Check(p, met, "gold") for p, met in zip(make.principles, (True, True, False)))
    return Chosen("x", Verified("v", make.traced(*traces), gold), 2, 2 / 3)


def test_each_mode_learns_what_its_ablation_allows(make, record: Chosen) -> None:
    whole = parse_verdict(answer_in("think+verify", record, echo_question=True), make.principles)
    assert (whole.reasoning, [c.met for c in whole.checks], whole.score) == ("RIGHT", [True] * 3, 6)
    bare = parse_verdict(answer_in("verify", record, echo_question=False), make.principles)
    assert (bare.reasoning, [c.met for c in bare.checks], bare.score) == ("", [True, True, False], 6)
    drawn = unverified_trace(record).verdict
    assert answer_in("think", record, echo_question=True) == f"{drawn.reasoning}\n<score>{drawn.score:.1f}</score>"
    assert drawn.reasoning in answer_in("viescore", record, echo_question=True)


def test_the_unverified_trace_is_drawn_by_the_edit_among_the_whole_ones(make, record: Chosen) -> None:
    from dataclasses import replace

    drawn = set()
    for number in range(40):
        edit = replace(record.verified.traced.edit, id=f"e{number}")
        other = replace(record, verified=replace(record.verified, traced=replace(record.verified.traced, edit=edit)))
        drawn.add(unverified_trace(other).verdict.reasoning)
        assert unverified_trace(other) == unverified_trace(replace(other, index=1))  # the choice does not enter
    assert drawn == {"WRONG", "RIGHT"}


def test_the_first_row_of_a_context_says_how_to_split_its_instruction(make, record: Chosen) -> None:
    """With one picture, the source; the answer is the principles. Contexts are told apart by their id."""
    from dataclasses import replace

    def of_context(name: str) -> Chosen:
        edit = record.verified.traced.edit
        decomposed = replace(edit.decomposed, context=replace(edit.decomposed.context, id=name))
        traced = replace(record.verified.traced, edit=replace(edit, decomposed=decomposed))
        return replace(record, verified=replace(record.verified, traced=traced))

    records = [of_context(name) for name in ("a", "a", "b")]
    template = load_template("default")
    rows = list(export(records, template=template, modes=["think", "decompose"]))
    held = [[c["mode"] for c in row["chats"]] for row in rows]
    assert held == [["think", "decompose"], ["think"], ["think", "decompose"]]
    chat = rows[0]["chats"][1]
    assert chat["prompt_hash"] == template.hash
    assert [p["type"] for m in chat["messages"] for p in m["content"]].count("image") == 1
    assert parse_principles(chat["answer"]) == tuple(make.principles)


def test_a_row_has_parts_and_chats(make, record: Chosen) -> None:
    (row,) = export([record], template=load_template("default"), modes=["think+verify", "think"])
    assert (row["score"], row["reasoning"], row["accuracy"]) == (6, "RIGHT", pytest.approx(2 / 3))
    assert [c["met"] for c in row["checks"]] == [True, True, True]
    assert [c["met"] for c in row["gold"]] == [True, True, False]
    both, think = row["chats"]
    kinds = [part["type"] for part in both["messages"][1]["content"]]
    assert kinds.count("image") == 2
    assert both["prompt_hash"] == load_template("default").hash != think["prompt_hash"]
    texts = [p["text"] for m in both["messages"] for p in m["content"] if p["type"] == "text"]
    assert any("Is the star red?" in t for t in texts)
    assert row["source"]["bytes"] == make.context(0).source


def test_the_holdout_is_a_matter_of_the_id_alone() -> None:
    ids = [f"context-{n}" for n in range(4000)]
    held = {i for i in ids if in_holdout(i, 0.1)}
    assert 0.07 < len(held) / len(ids) < 0.13
    assert held < {i for i in ids if in_holdout(i, 0.2)}
    assert not any(in_holdout(i, 0.0) for i in ids)


def test_an_estimate_by_hand(sticker_recipe, tmp_path: Path) -> None:
    recipe = sticker_recipe(
        "estimate.contexts=1000",
        "estimate.quadruples=10000",
        "estimate.sample=2",
        "select.pass_rate=0.5",
        "trace.samples=2",
        'verify.judge={simulated="strict", prompt_price=2.0, completion_price=10.0}',
    )
    found = estimate(Workshop(recipe, tmp_path))
    by_stage = {s.stage: s for s in found.stages}
    assert by_stage["select"].calls == 1000  # half the contexts hard, every second passes
    assert by_stage["decompose"].calls == 1000
    assert by_stage["edit"].calls == 10_000
    assert by_stage["trace"].calls == 10_000 * 2 * 2  # judges x samples
    verify = by_stage["verify"]
    assert verify.calls == 10_000
    assert verify.completion_tokens == 400 * 10_000
    assert verify.cost == pytest.approx((verify.prompt_tokens * 2 + verify.completion_tokens * 10) / 1e6, rel=1e-3)
    assert by_stage["edit"].gpu_hours == pytest.approx(10_000 * 12 / 3600)
    data = found.to_dict()
    assert data["kind"].startswith("estimate")
    assert data["total"]["calls"] == sum(s.calls for s in found.stages)
    assert any("characters a token" in text for text in data["assumptions"])
    assert any("GPU" in text for text in data["assumptions"])
    # the strict judge reads four notes of 900 tokens each on top of the rubric
    notes = 4 * min(900 * CHARACTERS_PER_TOKEN, 4000) / CHARACTERS_PER_TOKEN
    assert verify.prompt_tokens / verify.calls > notes


def test_a_former_run_s_answers_are_used(sticker_recipe, tmp_path: Path) -> None:
    recipe = sticker_recipe("estimate.sample=1", "estimate.quadruples=100")
    measured = {"verify": {"judges": {"x": {"calls": 4, "completion_tokens": 1000}}}}
    found = {s.stage: s for s in estimate(Workshop(recipe, tmp_path), measured).stages}
    assert found["verify"].completion_tokens == 250 * 100

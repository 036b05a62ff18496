from dataclasses import replace
from random import Random
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editr1.stickers import People
from editr1.stickers.annotators import HUMANS, JUDGES, PEOPLE, STRICT, SimulatedHuman, SimulatedJudge, choose_trace
from editr1.stickers.examples import sample_edit
from editr1.stickers.faults import EDITORS, StickerEdit
from editr1.stickers.oracle import damage, utility
from editr1.stickers.tasks import sample_task
from editr1.verifier.parse import parse_verdict

EDITS = st.builds(sample_edit, st.just("annotators"), st.integers(0, 20_000))


@settings(max_examples=60, deadline=None)
@given(EDITS, st.sampled_from([*JUDGES.values(), STRICT]), st.integers(0, 3))
def test_traces_are_whole_answers_that_the_parser_reads_back(edit, judge, seed):
    trace = judge.trace(edit, seed)
    for echo in (False, True):
        verdict = parse_verdict(trace.text(echo_question=echo), edit.task.principles)
        assert verdict.checks == trace.checks
        assert verdict.score == pytest.approx(trace.score)
        assert verdict.reasoning.strip() == trace.reasoning


@settings(max_examples=60, deadline=None)
@given(EDITS)
def test_a_judge_without_bias_is_the_oracle(edit):
    trace = SimulatedJudge("oracle", step=0.001).trace(edit)
    assert [c.met for c in trace.checks] == edit.task.truth(edit.scene)
    assert trace.score == pytest.approx(utility(edit.task, edit.scene), abs=0.001)


def test_the_pool_is_biased_and_the_strict_verifier_better():
    edits = [sample_edit("pool", i) for i in range(400)]

    def error(judge):
        pairs = [(c.met, t) for e in edits for c, t in zip(judge.trace(e).checks, e.task.truth(e.scene))]
        return sum(a != b for a, b in pairs) / len(pairs)

    errors = {name: error(j) for name, j in JUDGES.items()}
    assert min(errors.values()) > 1.5 * error(STRICT) > 0
    assert error(STRICT) < 0.03


def test_overlooking_everything_means_seeing_only_the_steps():
    """A judge that overlooks flaws, drift and bystanders calls every Keep and Quality principle met."""
    blind = SimulatedJudge("blind", overlooks_flaws=1, overlooks_drift=1, overlooks_bystanders=1)
    for index in range(60):
        job = sample_task("blind", index, multi_step=False)
        for fault in ("noise", "backdrop_drifts", "something_vanishes"):
            from editr1.stickers.faults import FAULTS

            scene = FAULTS[fault](job, job.after, Random(index))
            if scene is not None:
                trace = blind.trace(StickerEdit(job, scene, (fault,), "x"))
                assert all(c.met for c in trace.checks), (fault, trace.text())


def test_the_chosen_trace_follows_the_papers_rule():
    """Highest agreement with gold first; the chosen one is never beaten on it by another of the pool."""
    for index in range(40):
        edit = sample_edit("choose", index)
        gold = [c.met for c in STRICT.trace(edit, 0).checks]
        chosen = choose_trace(edit, traces=2)

        def right(trace, gold=gold):
            return sum(c.met == g for c, g in zip(trace.checks, gold))

        pool = [j.trace(edit, n) for j in JUDGES.values() for n in range(2)]
        best = max(right(t) for t in pool)
        assert right(chosen) == best
        tied = [t for t in pool if right(t) == best]
        top = max(sum(c.met for c in t.checks) for t in tied)
        assert sum(c.met for c in chosen.checks) == top
        assert chosen.score == max(t.score for t in tied if sum(c.met for c in t.checks) == top)


def test_humans_prefer_the_better_mostly_and_say_same_when_alike():
    human = SimulatedHuman("exact", noise=0.0, same_below=0.5)
    job = sample_task("human", 4)
    right, nothing = (StickerEdit(job, s, (), n) for s, n in ((job.after, "a"), (job.before, "b")))
    assert human.prefers(right, nothing) == 1
    assert human.prefers(nothing, right) == -1
    assert human.prefers(right, StickerEdit(job, job.after, (), "c")) == 0
    votes = []
    for i in range(300):
        job = sample_task("human", i)
        votes.append(HUMANS["ann"].prefers(EDITORS["careful"].edit(job, 1), EDITORS["rough"].edit(job, 2)))
    assert 0.05 < votes.count(0) / 300 < 0.30
    assert votes.count(1) > votes.count(-1) > 0


def test_exacting_people_mind_what_nobody_asked_for():
    """All of two steps with a bystander gone is worth 10 - 2.5 to the oracle, 10 - 2.5 * 2.5 = 3.75 to an exacting
    human; half of the steps and no damage is worth 5 to both."""
    job = next(
        t
        for t in (sample_task("exacting", i) for i in range(500))
        if len(t.steps) == 2
        and not {"backdrop", "style", "tone", "caption"} & t.touches
        and any(s.kind not in t.touches for s in t.after.stickers)
        and t.progress(t.steps[0].apply(t.before)) == [1.0, 0.0]
        and damage(t, t.steps[0].apply(t.before)) == 0
    )
    bystander = next(s for s in job.after.stickers if s.kind not in job.touches)
    rest = tuple(s for s in job.after.stickers if s is not bystander)
    damaged = StickerEdit(job, replace(job.after, stickers=rest), (), "damaged")
    half = StickerEdit(job, job.steps[0].apply(job.before), (), "half")
    plain, exacting = SimulatedHuman("p", noise=0.0), SimulatedHuman("e", noise=0.0, minds_changes=2.5)
    assert [human.worth(edit) for human in (plain, exacting) for edit in (damaged, half)] == [7.5, 5.0, 3.75, 5.0]
    assert plain.prefers(damaged, half) == 1
    assert exacting.prefers(damaged, half) == -1
    assert {(h.minds_changes, h.minds_flaws) for h in PEOPLE["plain"]} == {(1.0, 1.0)}
    assert all(h.minds_changes > 1 > h.minds_flaws for h in PEOPLE["exacting"])
    assert set(PEOPLE) == set(get_args(People))
    assert list(HUMANS) == [h.name for group in PEOPLE.values() for h in group]

"""Weights fitted to a verifier's own verdicts: the fit by hand, what it finds, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from editr1.cli.eval import app
from editr1.errors import DataError
from editr1.evaluation.headroom import NAMES, RIDGE, features, fit_headroom, fit_weights, headroom
from editr1.evaluation.judgements import Judgement
from editr1.types import Category, Check, Principle, VerdictStatus


def verdict(name: str, score: float, **unmet: int) -> Judgement:
    """Four checks of each category, of which so many are not met."""
    checks = [
        Check(Principle(f"{category.short} {i}?", category), i >= unmet.get(category.short, 0))
        for category in Category
        for i in range(4)
    ]
    return Judgement(name, VerdictStatus.OK, score, checks=tuple(checks))


def write_run(
    folder: Path, pairs: list[tuple[str, Judgement, Judgement]], dimension: str = "overall", context: str = ""
) -> Path:
    """What a finished evaluation leaves, as far as it is read here."""
    folder.mkdir()
    common = {"dimension": dimension, "context": context}
    rows = [{"label": label, "edits": [a.id, b.id], **common} for label, a, b in pairs]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = [json.dumps(j.to_dict()) + "\n" for _, *both in pairs for j in both]
    (folder / "judgements.jsonl").write_text("".join(said))
    return folder


def test_features_are_the_score_and_the_unmet_checks_of_each_category():
    found = dict(zip(NAMES, features(verdict("x", 7.5, Follow=1, Keep=3)), strict=True))
    assert found == {
        "score": 7.5,
        "unmet follow": 1,
        "share of unmet follow": 0.25,
        "unmet keep": 3,
        "share of unmet keep": 0.75,
        "unmet quality": 0,
        "share of unmet quality": 0,
    }
    assert features(Judgement("x", VerdictStatus.OK, 3.0)) == [3.0, 0, 0, 0, 0, 0, 0]


def test_the_fit_of_one_weight_by_hand():
    """d = 1 in 3 of 4 pairs and -1 in one: the loss 3/4 log(1 + e^-w) + 1/4 log(1 + e^w) + RIDGE / 2 w^2 is least where
    its derivative sigmoid(w) - 3/4 + RIDGE w is 0; without a ridge at w = log 3."""
    (weight,) = fit_weights(np.array([[1.0], [1.0], [1.0], [-1.0]]))
    assert 1 / (1 + np.exp(-weight)) - 0.75 + RIDGE * weight == pytest.approx(0, abs=1e-9)
    assert 0.9 * np.log(3) < weight < np.log(3)


def test_what_the_scores_do_not_count_is_found(tmp_path):
    """120 pairs of equal scores: a tie counts half, 0.5. In each the preferred edit has one unmet Keep less, which the
    weights find: 1.0 on pairs that they were not fitted to, a gain of 0.5. All gains being equal, the interval is that
    of the exact limit of 120 of 120, 1 - 0.025^(1/120) = 3.03 %: 50 - 3.03 % of 150 and 50 + 3.03 % of 50."""
    pairs = []
    for i in range(120):
        better, worse = verdict(f"{i}a", i % 9, Keep=i % 3), verdict(f"{i}b", i % 9, Keep=i % 3 + 1)
        pairs.append(("first", better, worse) if i % 2 else ("second", worse, better))
    found = headroom(write_run(tmp_path / "run", pairs))
    assert (found.by_score.value, found.by_weights.value, found.gain.value) == (0.5, 1.0, 0.5)
    assert found.weights["unmet keep"] < 0 == found.weights["score"]
    assert list(found.weights) == list(NAMES)
    done = CliRunner().invoke(app, ["headroom", str(tmp_path / "run")], catch_exceptions=False)
    assert "+50.0 [+45.5, +51.5]" in done.output
    assert "unmet keep" in done.output


def test_where_scores_say_all_nothing_is_gained():
    """Scores decide, checks are noise: fitted weights order pairs like the scores, within a few."""
    rng = np.random.default_rng(1)
    preferred, other = rng.normal(size=(2, 400, 7))
    swap = preferred[:, 0] < other[:, 0]
    preferred[swap], other[swap] = other[swap], preferred[swap].copy()
    found = fit_headroom(preferred, other)
    assert found.by_score.value == 1
    assert -0.03 < found.gain.value <= 0


def test_weights_of_pure_noise_gain_nothing():
    """They are measured on pairs that they were not fitted to: 300 coins stay near one half."""
    preferred, other = np.random.default_rng(2).normal(size=(2, 300, 7))
    found = fit_headroom(preferred, other)
    assert abs(found.by_weights.value - 0.5) < 0.1


def test_several_comparisons_of_one_context_are_fitted_and_tested_together():
    """Noise, each pair six times, as six annotators would leave it: a pair that was fitted to would be recognised in
    the test, and right. Together in one fold it is a coin, and the interval is that of 60 pairs, not of 360."""
    rng = np.random.default_rng(3)
    found = []
    for draw in range(8):
        preferred, other = (np.repeat(rng.normal(size=(60, 7)), 6, axis=0) for _ in range(2))
        contexts = [f"c{i // 6}" for i in range(360)]
        found.append(fit_headroom(preferred, other, draw, contexts))
    assert abs(np.mean([f.by_weights.value for f in found]) - 0.5) < 0.06
    assert all(f.by_weights.high - f.by_weights.low > 0.2 for f in found)
    apart = fit_headroom(preferred, other, 0)
    assert apart.by_weights.high - apart.by_weights.low < 0.12


def test_too_few_contexts_are_too_few_pairs(tmp_path):
    pairs = [("first", verdict("g", 9), verdict("b", 2, Keep=1))] * 60
    with pytest.raises(DataError, match="60 pairs, of 1 contexts"):
        headroom(write_run(tmp_path / "run", pairs, context="one"))


def test_pairs_without_preference_or_verdict_do_not_count(tmp_path):
    failed = Judgement("f", VerdictStatus.UNPARSEABLE)
    good, bad = verdict("g", 9), verdict("b", 2, Keep=1)
    pairs = [("first", good, bad)] * 49 + [("same", good, bad), ("first", good, failed)]
    with pytest.raises(DataError, match="49 pairs, of 49 contexts, .* pairs of 50 contexts are the least"):
        headroom(write_run(tmp_path / "run", pairs))
    assert headroom(write_run(tmp_path / "more", [*pairs, ("second", bad, good)])).gain.items == 50


def test_of_several_dimensions_one_has_to_be_named(tmp_path):
    run = write_run(tmp_path / "run", [("first", verdict("g", 9), verdict("b", 2, Keep=1))] * 60, "quality")
    with (run / "pairs.jsonl").open("a") as file:
        file.write(json.dumps({"label": "first", "dimension": "other", "edits": ["g", "b"]}) + "\n")
    with pytest.raises(DataError, match="other, quality"):
        headroom(run)
    assert headroom(run, "quality").gain.items == 60

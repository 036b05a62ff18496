import json

import pytest
import torch
from safetensors.torch import load_file

from editr1.config import load
from editr1.errors import ConfigError
from editr1.stickers import models
from editr1.stickers.models import SIZES, Size
from editr1.training.vlm import loop
from editr1.training.vlm.recipe import VlmRecipe


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """A model and a tokenizer that train in a second, in the place of the small ones."""
    monkeypatch.setitem(SIZES, "small", Size(64, 1, 1, 96, 64, 1, 96))
    tokenizer = models.train_tokenizer(60)
    monkeypatch.setattr(loop, "train_tokenizer", lambda: tokenizer)


def recipe(**changes):
    base = {"name": "tiny", "examples": "describe", "size": "small", "steps": 12, "batch_size": 2, "warmup": 2}
    return VlmRecipe(**(base | {"workers": 0, "save_every": 5, "device": "cpu"} | changes))


def test_learning_rate_by_hand():
    """Warm-up of 4 to 1: 0.25, 0.5, 0.75, 1. Then from step 4 to 8 a cosine to 0.1: at the middle 0.55."""
    settings = recipe(steps=8, warmup=4, learning_rate=1.0)
    rates = [loop.learning_rate(s, settings) for s in range(9)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[6] == pytest.approx(0.55)
    assert rates[8] == pytest.approx(0.1)


class Killed(Exception):
    pass


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    torch.use_deterministic_algorithms(True)
    try:
        loop.train_vlm(recipe(), tmp_path / "whole")

        def die(row):
            if row["step"] == 8:
                raise Killed

        with pytest.raises(Killed):
            loop.train_vlm(recipe(), tmp_path / "killed", die)
        loop.train_vlm(recipe(), tmp_path / "killed")
    finally:
        torch.use_deterministic_algorithms(False)
    whole, killed = (load_file(tmp_path / n / "model/model.safetensors") for n in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    rows = [[json.loads(line) for line in (tmp_path / n / "metrics.jsonl").open()] for n in ("whole", "killed")]
    assert [r["step"] for r in rows[1]] == list(range(1, 13))
    assert [r["loss"] for r in rows[0]] == [r["loss"] for r in rows[1]]


def test_training_learns(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    loop.train_vlm(recipe(steps=24, batch_size=4, learning_rate=3e-3), tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").open()]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_recipes_ship_valid_and_need_one_origin():
    with pytest.raises(ConfigError, match="size"):
        load(VlmRecipe, None, ["name=x", "examples=describe"])
    with pytest.raises(ConfigError, match="learning_rate"):
        load(VlmRecipe, None, ["name=x", "examples=describe", "size=small", "learnig_rate=1"])


def test_decisions_weigh_more_by_hand(monkeypatch):
    """Two answer tokens with losses a (a decision) and b, weight 3: the mean is (3 a + b) / 4."""
    from editr1.training.uniform import uniform_pictures
    from editr1.training.vlm.data import IGNORED, ChunkedExamples

    tokenizer = loop.train_tokenizer()
    model = models.make_model("small", tokenizer).eval()
    batch = ChunkedExamples(loop.EXAMPLES["verify"], "weights", 1, 1, tokenizer)[0][0]
    places = (batch.labels[0] != IGNORED).nonzero().flatten()
    losses = []
    with uniform_pictures(model), torch.no_grad():
        for keep in (places[0], places[1]):
            labels = torch.full_like(batch.labels, IGNORED)
            labels[0, keep] = batch.labels[0, keep]
            losses.append(
                loop.answer_loss(model, loop.Batch(batch.input_ids, labels, batch.positions, batch.pictures))[0]
            )
        labels = torch.full_like(batch.labels, IGNORED)
        labels[0, places[:2]] = batch.labels[0, places[:2]]
        both = loop.Batch(batch.input_ids, labels, batch.positions, batch.pictures)
        first = batch.labels[0, places[:1]]
        assert first != batch.labels[0, places[1]]
        weighted = loop.answer_loss(model, both, first, 3.0)[0]
    torch.testing.assert_close(weighted, (3 * losses[0] + losses[1]) / 4, atol=1e-3, rtol=1e-3)


def test_decision_tokens_are_the_zeros_and_ones():
    assert sorted(t[12] for t in models.DECISION_TOKENS) == ["0", "0", "1", "1"]

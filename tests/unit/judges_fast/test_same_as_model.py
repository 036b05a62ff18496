"""The engine must say what the model says: logits to 1e-4 in float32, greedy tokens the same."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from fast_helpers import Tiny, chat, context, picture

from editr1.judges.base import ChatRequest, Sampling
from editr1.judges.fast import FastEngine, supports, why_unsupported
from editr1.judges.fast import decode as decode_module

FORCED = 12

CASES = {
    "one context": context(0, 5),
    "three contexts of unequal size": [*context(0, 3), *context(1, 2), *context(2, 1)],
    "suffixes of unequal length": [
        *context(0, 2),
        chat("Source: ", picture(1000), "Task 0: add a star. Edited: ", picture(7, 160, 96), " Look closely."),
    ],
    "several windows, mixed sizes": [
        chat("a", picture(1, 208, 144), "b", picture(2, 64, 176)),
        chat("a", picture(1, 208, 144), "b", picture(3, 64, 176)),
        chat("a", picture(4, 96, 128), "b", picture(5, 144, 208)),
    ],
    "text only": [chat("x" * n) for n in (1, 5, 40)],
    "text beside pictures": [chat("hello"), *context(3, 2), chat("hello there, what is it?"), chat(picture(9))],
    "the same chat twice": [chat("same", picture(1))] * 3,
    "picture at the very end of the words": [chat("one", picture(i)) for i in range(3)],
    "alone": [chat("just one", picture(3, 112, 80))],
}


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "as they are"])
@pytest.mark.parametrize("case", CASES)
def test_logits_equal_the_models_forward(tiny: Tiny, case: str, fuse: bool) -> None:
    requests = CASES[case]
    rng = np.random.default_rng(len(case))
    forced = [rng.integers(0, 256, FORCED).tolist() for _ in requests]
    logits = FastEngine(tiny.model, tiny.processor, fuse=fuse).next_logits(requests, forced)
    for request, tokens, ours in zip(requests, forced, logits):
        theirs = tiny.logits(request, tokens)
        assert theirs.std() > 0.5  # they have something to say
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def adapted(tiny: Tiny, **options: object) -> Tiny:
    """The same model under two LoRA adapters with weights that matter, both active."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "down_proj", "qkv", "merger.mlp.0"], **options)
    wrapped = get_peft_model(copy.deepcopy(tiny.model), config)
    wrapped.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj", "o_proj"], use_rslora=True))
    wrapped.base_model.set_adapter(["default", "second"])
    torch.manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return Tiny(wrapped.get_base_model().eval(), tiny.processor)


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "as they are"])
def test_logits_under_lora(tiny: Tiny, fuse: bool) -> None:
    """What the adapters add is read too, as they are now, and without them the base model speaks."""
    under, request = adapted(tiny), context(0, 1)[0]
    engine = FastEngine(under.model, tiny.processor, fuse=fuse)
    bare = tiny.logits(request, [5, 6, 7])
    for change in (lambda: None, lambda: under.model.model.language_model.layers[0].self_attn.q_proj.merge()):
        change()
        ours = engine.next_logits([request], [[5, 6, 7]])[0]
        torch.testing.assert_close(ours, under.logits(request, [5, 6, 7]), atol=1e-4, rtol=0)
        assert (ours - bare).abs().max() > 0.1
    for module in under.model.modules():
        if hasattr(module, "lora_A"):
            module.enable_adapters(False)
    engine.refresh()
    ours = engine.next_logits([request], [[5, 6, 7]])[0]
    torch.testing.assert_close(ours, bare, atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True}])
def test_other_adapters_are_refused(tiny: Tiny, options: dict[str, object]) -> None:
    assert supports(adapted(tiny).model)
    assert "is a Linear" in (why_unsupported(adapted(tiny, **options).model) or "")


def test_weights_that_were_let_go_of_are_read_again(tiny: Tiny) -> None:
    engine, requests = FastEngine(tiny.model, tiny.processor), context(0, 2, max_tokens=5)
    before = [d.tokens for d in engine.draw(requests)]
    engine.release()
    assert [d.tokens for d in engine.draw(requests)] == before
    engine.release()
    assert engine.next_logits(requests).shape[:2] == (2, 1)


@pytest.mark.parametrize("options", [{"tie_word_embeddings": False}, {"kv_heads": 1}, {"kv_heads": 4}, {"heads": 2}])
def test_logits_of_other_shapes(options: dict[str, object]) -> None:
    from editr1.judges.testing import tiny_qwen

    other = Tiny(*tiny_qwen(layers=2, vision_depth=2, seed=3, **options))
    requests = [*context(0, 3), *context(1, 2)]
    logits = FastEngine(other.model, other.processor).next_logits(requests, [[5, 6, 7]] * 5)
    for request, ours in zip(requests, logits):
        torch.testing.assert_close(ours, other.logits(request, [5, 6, 7]), atol=1e-4, rtol=0)


def test_greedy_tokens_are_those_of_generate(tiny: Tiny) -> None:
    rng = np.random.default_rng(0)
    requests = [
        chat("".join(rng.choice(list("abcdefgh ,."), rng.integers(1, 60))), picture(int(i)), max_tokens=80)
        if i % 3
        else chat("".join(rng.choice(list("abcdefgh ,."), rng.integers(1, 60))), max_tokens=80)
        for i in range(18)
    ]
    draws = FastEngine(tiny.model, tiny.processor, max_rows=7).draw(requests)
    ends = 0
    for request, draw in zip(requests, draws):
        theirs = tiny.generate(request)
        ends += draw.ended
        _assert_same_but_for_ties(tiny, request, list(draw.tokens), theirs)
    assert 0 < ends < len(requests)  # some answers end by themselves and some do not, so both ways were compared


def _assert_same_but_for_ties(tiny: Tiny, request: ChatRequest, ours: list[int], theirs: list[int]) -> None:
    """Equal, or different first where the model's two best logits lie within rounding of each other."""
    if ours == theirs:
        return
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    best = tiny.logits(request, theirs[:at])[-1].topk(2).values
    assert best[0] - best[1] < 2e-4, f"differs at token {at} where the margin is {best[0] - best[1]:.4f}"


@pytest.mark.parametrize("steps", [2, 7, 500])
def test_looking_seldom_changes_no_answer(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """As on an accelerator, where rows that ended are noticed late."""
    requests = [*context(0, 4, max_tokens=50), *context(1, 3, max_tokens=33), chat("short", max_tokens=1)]
    engine = FastEngine(tiny.model, tiny.processor)
    expected = engine.draw(requests)
    monkeypatch.setattr(decode_module, "_steps_between_looks", lambda _: steps)
    assert engine.draw(requests) == expected


def test_long_answers_outgrow_the_first_room(tiny: Tiny) -> None:
    """Answers longer than one chunk of cache, with padding, after rows were dropped."""
    requests = [*context(0, 2, max_tokens=300), chat("short", max_tokens=3), chat("and", max_tokens=5)]
    engine = FastEngine(tiny.model, tiny.processor, ignore_end=True)
    draws = engine.draw(requests)
    assert [len(draw.tokens) for draw in draws] == [300, 300, 3, 5]
    for request, draw in zip(requests, draws):
        theirs = tiny.generate(request, eos_token_id=-1, pad_token_id=0)
        _assert_same_but_for_ties(tiny, request, list(draw.tokens), theirs)


def test_repetition_penalty_of_the_generation_config(tiny: Tiny) -> None:
    model = copy.deepcopy(tiny.model)
    model.generation_config.repetition_penalty = 1.3
    penalised = Tiny(model, tiny.processor)
    requests = context(0, 3, max_tokens=40)
    draws = FastEngine(model, tiny.processor).draw(requests)
    plain = FastEngine(tiny.model, tiny.processor).draw(requests)
    assert [d.tokens for d in draws] != [d.tokens for d in plain]
    assert [list(d.tokens) for d in draws] == [penalised.generate(request) for request in requests]


def test_copies_follow_the_parameters(tiny: Tiny) -> None:
    """After a training step in place, the next answers are those of the new weights."""
    model = copy.deepcopy(tiny.model)
    engine, changed = FastEngine(model, tiny.processor, fuse=True), Tiny(model, tiny.processor)
    request = chat("hello", picture(1), max_tokens=12)
    before = engine.draw([request])[0]
    with torch.no_grad():
        model.model.language_model.layers[0].mlp.up_proj.weight.mul_(-1.0)
    after = engine.draw([request])[0]
    assert before.tokens != after.tokens
    assert list(after.tokens) == changed.generate(request)


def test_copies_follow_a_fused_optimizer(tiny: Tiny) -> None:
    """Its steps leave PyTorch's count of writes as it is, and are noticed all the same."""
    model = copy.deepcopy(tiny.model)
    engine, changed = FastEngine(model, tiny.processor, fuse=True), Tiny(model, tiny.processor)
    request = chat("hello", picture(1), max_tokens=12)
    before = engine.draw([request])[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    after = engine.draw([request])[0]
    assert before.tokens != after.tokens
    assert list(after.tokens) == changed.generate(request)


def test_bfloat16_stays_near_the_model(tiny: Tiny) -> None:
    """Rounding differs from operator to operator; the engine must be no further from float32 than the model is."""
    half = Tiny(copy.deepcopy(tiny.model).to(torch.bfloat16), tiny.processor)
    requests = context(0, 3)
    ours = FastEngine(half.model, half.processor).next_logits(requests, [[5, 6]] * 3).float()
    exact = torch.stack([tiny.logits(request, [5, 6]) for request in requests])
    theirs = torch.stack([half.logits(request, [5, 6]) for request in requests]).float()
    assert (ours - exact).abs().mean() < 1.5 * (theirs - exact).abs().mean() + 0.01


def test_max_tokens_of_one(tiny: Tiny) -> None:
    request = ChatRequest(chat("hello").messages, Sampling(max_tokens=1))
    (draw,) = FastEngine(tiny.model, tiny.processor).draw([request])
    assert list(draw.tokens) == tiny.generate(request)

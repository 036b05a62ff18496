"""Replies, statuses, usage; refusing models; drawing."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from fast_helpers import Tiny, chat, context, picture

from editr1.errors import ModelError
from editr1.judges.base import ChatReply, ChatRequest, Message, ReplyStatus, Sampling, Text
from editr1.judges.fast import FastEngine, supports, why_unsupported
from editr1.judges.fast import runner as runner_module


def test_replies_carry_status_usage_and_seconds(tiny: Tiny) -> None:
    requests = [*context(0, 5, max_tokens=80), *context(1, 5, max_tokens=80)]
    seen: dict[int, ChatReply] = {}
    replies = FastEngine(tiny.model, tiny.processor, max_rows=3).generate(requests, seen.__setitem__)
    assert [seen[i] for i in range(10)] == replies
    assert {reply.status for reply in replies} == {ReplyStatus.OK, ReplyStatus.TRUNCATED}
    for request, reply in zip(requests, replies):
        tokens = tiny.generate(request)
        end = tiny.model.generation_config.eos_token_id
        assert reply.usage.prompt_tokens == tiny.inputs(request)["input_ids"].shape[1]
        assert reply.usage.completion_tokens == len(tokens)
        assert reply.usage.calls == 1
        assert (reply.status is ReplyStatus.TRUNCATED) == (tokens[-1] != end)
        assert reply.text == tiny.processor.tokenizer.decode(tokens, skip_special_tokens=True)
        assert reply.seconds > 0


def test_an_answer_of_nothing_but_the_end_is_empty(tiny: Tiny) -> None:
    model = copy.deepcopy(tiny.model)
    request = chat("hello", max_tokens=5)
    model.generation_config.eos_token_id = [3, Tiny(model, tiny.processor).generate(request)[0]]
    (reply,) = FastEngine(model, tiny.processor).generate([request])
    # The first token is an end token now; if it is a letter it still decodes, so only the special one counts.
    assert reply.usage.completion_tokens == 1
    assert reply.status in (ReplyStatus.OK, ReplyStatus.EMPTY)
    assert (reply.status is ReplyStatus.EMPTY) == (not reply.text.strip())


def test_a_chat_that_cannot_be_tokenised_fails_alone(tiny: Tiny) -> None:
    requests = [
        chat("fine", max_tokens=4),
        chat("a placeholder <|image_pad|> in words", picture(1), max_tokens=4),
        chat("too thin", picture(1, 4000, 8), max_tokens=4),
        chat("fine too", picture(2), max_tokens=4),
    ]
    replies = FastEngine(tiny.model, tiny.processor).generate(requests)
    assert [reply.status is ReplyStatus.ERROR for reply in replies] == [False, True, True, False]
    assert "placeholder" in (replies[1].error or "")
    assert "4000x8" in (replies[2].error or "")


def test_rows_that_share_nothing_may_outlast_those_that_do(tiny: Tiny) -> None:
    """Edits of shared contexts end after two tokens; a chat that begins otherwise goes on alone, and is not harmed."""
    short = [*context(0, 2, max_tokens=2), *context(1, 2, max_tokens=2)]
    alone = ChatRequest((Message("user", (Text("quite another beginning " * 40),)),), Sampling(max_tokens=12))
    tokens = tiny.generate(alone)
    assert len(tokens) > 2
    wanted = tiny.processor.tokenizer.decode(tokens, skip_special_tokens=True)
    for place in range(5):
        replies = FastEngine(tiny.model, tiny.processor).generate([*short[:place], alone, *short[place:]])
        assert replies[place].text == wanted
        assert [r.usage.completion_tokens for r in replies if r is not replies[place]] == [2] * 4


def test_no_requests(tiny: Tiny) -> None:
    assert FastEngine(tiny.model, tiny.processor).generate([]) == []


def test_running_out_of_memory_halves_the_batch(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, requests = FastEngine(tiny.model, tiny.processor), context(0, 6, max_tokens=10)
    expected = engine.generate(requests)
    sizes = []
    real = runner_module.encode_pictures

    def tight(weights: object, patches: list[torch.Tensor], grids: object) -> object:
        sizes.append(len(patches))
        if len(patches) > 3:
            raise torch.OutOfMemoryError("no room")
        return real(weights, patches, grids)  # type: ignore[arg-type]

    monkeypatch.setattr(runner_module, "encode_pictures", tight)
    replies = engine.generate(requests)
    assert [r.text for r in replies] == [r.text for r in expected]
    assert max(sizes) == 7
    monkeypatch.setattr(runner_module, "encode_pictures", _never_enough)
    assert {r.status for r in engine.generate(requests)} == {ReplyStatus.ERROR}


def _never_enough(*_: object) -> None:
    raise torch.OutOfMemoryError("no room")


def test_draws_do_not_depend_on_batch_mates(tiny: Tiny) -> None:
    def sampled(request: ChatRequest, fresh: int) -> ChatRequest:
        sampling = Sampling(max_tokens=25, temperature=1.0, top_p=0.9, seed=11)
        return ChatRequest(request.messages, sampling, fresh)

    engine = FastEngine(tiny.model, tiny.processor)
    requests = [sampled(request, fresh) for request in context(0, 3) for fresh in (0, 1)]
    together = [draw.tokens for draw in engine.draw(requests)]
    assert together == [engine.draw([request])[0].tokens for request in requests]
    assert len(set(together)) == len(together)


def test_greedy_rows_beside_sampled_ones_stay_greedy(tiny: Tiny) -> None:
    greedy = chat("hello", picture(1), max_tokens=20)
    hot = [chat("hello", picture(1), max_tokens=20, temperature=2.0, seed=n) for n in range(3)]
    draws = FastEngine(tiny.model, tiny.processor).draw([hot[0], greedy, *hot[1:]])
    assert list(draws[1].tokens) == tiny.generate(greedy)


def test_rollouts_return_the_log_probabilities_of_their_tokens(tiny: Tiny) -> None:
    request = chat("Source: ", picture(1), "what?")
    inputs = tiny.inputs(request)
    engine = FastEngine(tiny.model, tiny.processor)
    (draws,) = engine.rollout([inputs], 6, max_tokens=15, temperature=0.7, seed=5)
    assert len({draw.tokens for draw in draws}) > 1
    for draw in draws:
        logits = tiny.logits(request, list(draw.tokens))[:-1] / 0.7
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(draw.tokens)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(draw.logprobs), expected, atol=1e-3, rtol=0)
    (again, other) = engine.rollout([inputs, inputs], 6, max_tokens=15, temperature=0.7, seed=5)
    assert [d.tokens for d in again] == [d.tokens for d in draws]
    assert [d.tokens for d in other] != [d.tokens for d in draws]
    (tail,) = engine.rollout([inputs], 2, max_tokens=15, temperature=0.7, seed=5, first_index=4)
    assert [d.tokens for d in tail] == [d.tokens for d in draws[4:]]


def test_first_tokens_are_drawn_in_proportion(tiny: Tiny) -> None:
    """1,000 draws of one token against the model's probabilities, cut at top_p."""
    request = chat("which?", picture(4))
    draws = FastEngine(tiny.model, tiny.processor).rollout(
        [tiny.inputs(request)], 1000, max_tokens=1, temperature=1.0, top_p=0.8, seed=1
    )[0]
    ordered, ids = tiny.logits(request, [])[0].softmax(-1).sort(descending=True)
    kept = int((ordered.cumsum(0) - ordered < 0.8).sum())
    counts = torch.bincount(torch.tensor([d.tokens[0] for d in draws]), minlength=len(ids))[ids]
    assert counts[kept:].sum() == 0
    expected = ordered[:kept] / ordered[:kept].sum()
    for count, share in zip(counts[:kept].tolist(), expected.tolist()):
        assert abs(count - 1000 * share) < 5 * math.sqrt(1000 * share * (1 - share)) + 1


def test_other_models_are_refused(tiny: Tiny) -> None:
    assert supports(tiny.model)
    assert not supports(torch.nn.Linear(2, 2))
    with pytest.raises(ModelError, match="Linear is not"):
        FastEngine(torch.nn.Linear(2, 2), tiny.processor)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda m: setattr(m.generation_config, "no_repeat_ngram_size", 3), "no_repeat_ngram_size"),
        (lambda m: setattr(m.config.text_config, "hidden_act", "gelu"), "activation"),
        (lambda m: setattr(m.config.text_config, "layer_types", ["sliding_attention"] * 3), "sliding"),
        (lambda m: m.lm_head.to(torch.bfloat16), "types"),
        (lambda m: m.lm_head.register_forward_hook(lambda *_: None), "hooks"),
        (lambda m: setattr(m.model.language_model.layers[0].mlp, "up_proj", torch.nn.Identity()), "Identity"),
        (lambda m: setattr(m.model.visual.merger.mlp, "2", torch.nn.Identity()), "merger.mlp.2"),
        (lambda m: m.model.visual.blocks[0].attn.__setattr__("qkv", torch.nn.Identity()), "qkv"),
    ],
)
def test_what_the_engine_does_not_know_is_refused(tiny: Tiny, spoil: object, reason: str) -> None:
    model = copy.deepcopy(tiny.model)
    spoil(model)  # type: ignore[operator]
    assert reason in (why_unsupported(model) or "")


def test_the_model_is_left_as_it_was(tiny: Tiny) -> None:
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    FastEngine(tiny.model, tiny.processor).generate(context(0, 3, max_tokens=10))
    assert all(torch.equal(value, before[name]) for name, value in tiny.model.state_dict().items())

"""Rollouts and replays."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from editr1.editors import PipelineEditor, replay, rescore, sample, sample_images, wrap
from editr1.editors.testing import KONTEXT_OPTIONS, QWEN_OPTIONS, tiny_kontext, tiny_qwen_edit
from editr1.types import EditTask

Make = Callable[..., PipelineEditor]
MakeTask = Callable[..., EditTask]


@pytest.fixture(scope="module")
def halves() -> dict[str, PipelineEditor]:
    """The editors in bfloat16, and one with float32 weights under bfloat16 autocast."""
    return {
        "kontext": wrap(tiny_kontext().to(torch.bfloat16), KONTEXT_OPTIONS),
        "qwen": wrap(tiny_qwen_edit().to(torch.bfloat16), QWEN_OPTIONS),
        "autocast": wrap(tiny_kontext(), KONTEXT_OPTIONS, autocast=torch.bfloat16),
    }


@pytest.mark.parametrize("kind", ["sde", "cps"])
@pytest.mark.parametrize("name", ["kontext", "qwen", "qwen-plus"])
def test_a_replay_scores_what_was_drawn(make_editor: Make, make_task: MakeTask, name: str, kind: str) -> None:
    """Unchanged weights give the same log-probability to the last bit, at every step and with a gradient tape."""
    editor = make_editor(name)
    contexts = editor.encode([make_task(), make_task("make the picture darker", seed=1)])
    (rollout,) = sample(editor, contexts * 2, [1, 2, 3, 4], 5, noise_level=0.7, kind=kind, decode=False)
    assert rollout.window == (0, 1, 2, 3)
    for step in rollout.window:
        assert torch.equal(replay(editor, rollout, step).log_prob, rollout.log_probs[step])


@pytest.mark.parametrize("name", ["kontext", "qwen", "autocast"])
def test_a_replay_in_half_precision_is_exact_too(
    halves: dict[str, PipelineEditor], make_task: MakeTask, name: str
) -> None:
    """Latents and log-probabilities stay float32: with bfloat16 latents, ratios would be off by some percent."""
    editor = halves[name]
    contexts = editor.encode([make_task(), make_task("add a bird", seed=1)])
    (rollout,) = sample(editor, contexts, [1, 2], 5, noise_level=0.9, decode=False)
    assert {tensor.dtype for tensor in (*rollout.states.values(), *rollout.log_probs.values())} == {torch.float32}
    for step in rollout.window:
        ratio = (replay(editor, rollout, step).log_prob - rollout.log_probs[step]).exp()
        assert torch.equal(ratio, torch.ones(2))


def test_what_is_selected_can_be_scored_anew(halves: dict[str, PipelineEditor], make_task: MakeTask) -> None:
    editor = halves["kontext"]
    context = editor.encode([make_task()])[0]
    (rollout,) = sample(editor, [context] * 6, list(range(6)), 5, noise_level=0.9)
    part = rollout.select([4, 1])
    assert (part.positions, part.seeds) == ((4, 1), (4, 1))
    assert torch.equal(part.final, rollout.final[[4, 1]])
    assert part.images == (rollout.images[4], rollout.images[1])
    scored = rescore(editor, part)
    for step in part.window:
        torch.testing.assert_close(scored.log_probs[step], part.log_probs[step], rtol=0, atol=0.02)
        assert torch.equal(replay(editor, scored, step).log_prob, scored.log_probs[step])


def test_the_log_probability_is_that_of_the_noise(make_editor: Make, make_task: MakeTask) -> None:
    """A drawn step is mean + std z, so its mean log-density is -mean(z^2) / 2 - log(std) - log(2 pi) / 2."""
    editor = make_editor("kontext")
    (rollout,) = sample(editor, editor.encode([make_task()]), [5], 4, noise_level=0.8, window=(1,))
    generator = torch.Generator().manual_seed(5)
    editor.noise(rollout.geometry, [generator])
    noise = torch.randn(rollout.states[1].shape[1:], generator=generator)
    done = replay(editor, rollout, 1)
    expected = -noise.square().mean() / 2 - done.std.log() - math.log(2 * math.pi) / 2
    torch.testing.assert_close(rollout.log_probs[1], expected, rtol=0, atol=1e-4)


def test_states_are_kept_around_the_window(make_editor: Make, make_task: MakeTask) -> None:
    editor = make_editor("kontext")
    contexts = editor.encode([make_task()])
    (rollout,) = sample(editor, contexts, [1], 6, noise_level=0.5, window=(1, 2))
    assert sorted(rollout.states) == [1, 2, 3, 6]
    assert sorted(rollout.log_probs) == [1, 2]
    assert torch.equal(rollout.final, rollout.states[6])


def test_outside_the_window_it_is_the_ode(make_editor: Make, make_task: MakeTask) -> None:
    """Before the window, states are those of the ODE; after it, the ODE goes on from where noise has led."""
    editor = make_editor("kontext")
    contexts = editor.encode([make_task()])
    (ode,) = sample(editor, contexts, [1], 6)
    (rollout,) = sample(editor, contexts, [1], 6, noise_level=0.5, window=(2,))
    assert ode.window == ()
    assert set(ode.states) == {6}
    batch = editor.batch(contexts)
    latents = editor.noise(rollout.geometry, [torch.Generator().manual_seed(1)])
    for step in (0, 1):
        latents = latents + (rollout.sigmas[step + 1] - rollout.sigmas[step]) * editor.velocity(
            latents, rollout.sigmas[step], batch
        )
    torch.testing.assert_close(rollout.states[2], latents, rtol=0, atol=1e-5)
    latents = rollout.states[3]
    for step in (3, 4, 5):
        latents = latents + (rollout.sigmas[step + 1] - rollout.sigmas[step]) * editor.velocity(
            latents, rollout.sigmas[step], batch
        )
    torch.testing.assert_close(rollout.final, latents, rtol=0, atol=1e-5)
    assert (rollout.final - ode.final).abs().max() > 0.1


def test_noise_belongs_to_the_seed(make_editor: Make, make_task: MakeTask) -> None:
    """Neither the batch nor the company changes what a seed draws."""
    editor = make_editor("kontext")
    context = editor.encode([make_task()])[0]
    (together,) = sample(editor, [context] * 3, [7, 8, 9], 4, noise_level=0.7)
    alone = [next(sample(editor, [context], [seed], 4, noise_level=0.7)).final for seed in (7, 8, 9)]
    torch.testing.assert_close(together.final, torch.cat(alone), rtol=0, atol=1e-4)
    assert (together.final[0] - together.final[1]).abs().max() > 0.5


def test_sizes_may_be_mixed(make_editor: Make, make_task: MakeTask) -> None:
    """They are batched by size, and pictures come back in the order of the request."""
    editor = make_editor("kontext")
    tasks = [make_task(size=size) for size in ((32, 32), (64, 32), (32, 32), (32, 64), (32, 32))]
    contexts = editor.encode(tasks)
    rollouts = list(sample(editor, contexts, range(5), 3, batch_size=2))
    assert [r.positions for r in rollouts] == [(0, 2), (4,), (1,), (3,)]
    images = sample_images(editor, contexts, range(5), 3, batch_size=2)
    assert [image.size for image in images] == [(32, 32), (40, 16), (32, 32), (16, 40), (32, 32)]
    alone = sample_images(editor, [contexts[3]], [3], 3)
    assert alone[0].tobytes() == images[3].tobytes()


def test_the_first_batch_is_there_before_the_second_runs(make_editor: Make, make_task: MakeTask) -> None:
    editor = make_editor("kontext")
    context = editor.encode([make_task()])[0]
    calls = 0
    forward = editor.velocity

    def counting(*arguments: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return forward(*arguments)  # type: ignore[arg-type]

    editor.velocity = counting  # type: ignore[method-assign, assignment]
    rollouts = sample(editor, [context] * 4, range(4), 3, batch_size=2)
    next(rollouts)
    assert calls == 3
    next(rollouts)
    assert calls == 6


def test_a_replay_has_the_gradient_of_the_policy(make_task: MakeTask) -> None:
    """Against central differences of the log-probability along the gradient, in float64."""
    editor = wrap(tiny_kontext().to(torch.float64), KONTEXT_OPTIONS)
    (rollout,) = sample(editor, editor.encode([make_task()]), [1], 4, noise_level=0.8, decode=False)
    weight = editor.pipeline.transformer.transformer_blocks[0].attn.to_q.weight.requires_grad_(True)
    (gradient,) = torch.autograd.grad(replay(editor, rollout, 1).log_prob.sum(), [weight])
    direction = gradient / gradient.norm()

    def log_prob(shift: float) -> float:
        with torch.no_grad():
            weight.add_(direction, alpha=shift)
            value = replay(editor, rollout, 1).log_prob.sum().item()
            weight.sub_(direction, alpha=shift)
        return value

    slope = (log_prob(1e-4) - log_prob(-1e-4)) / 2e-4
    assert slope == pytest.approx(gradient.norm().item(), rel=1e-4)
    assert slope > 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": [1]}, "1 seeds for 2 contexts"),
        ({"noise_level": 0.5, "window": (0, 3)}, "the last step is always deterministic"),
        ({"noise_level": 0.5, "window": (1, 0)}, "rising indices"),
        ({"noise_level": 0.5, "window": (-1,)}, "rising indices"),
        ({"window": (0,)}, "noise level 0"),
        ({"noise_level": 0.5, "steps": 1}, "no stochastic one"),
        ({"steps": 0}, "1 or more"),
    ],
)
def test_what_cannot_be_sampled_is_said_at_once(
    make_editor: Make, make_task: MakeTask, arguments: dict[str, object], message: str
) -> None:
    editor = make_editor("kontext")
    contexts = editor.encode([make_task()]) * 2
    with pytest.raises(ValueError, match=message):
        sample(editor, contexts, **({"seeds": [1, 2], "steps": 4} | arguments))  # type: ignore[arg-type]


def test_only_stochastic_steps_are_replayed(make_editor: Make, make_task: MakeTask) -> None:
    editor = make_editor("kontext")
    (rollout,) = sample(editor, editor.encode([make_task()]), [1], 4, noise_level=0.5, window=(1,))
    with pytest.raises(ValueError, match=r"replay one of \[1\]"):
        replay(editor, rollout, 2)

"""Simulated annotators: vision-language judges with biases, a strict verifier, humans. Nothing here is human data.

A judge's bias acts on what it *perceives*: it overlooks a small move, forgives a drifted backdrop, sees what was asked
for, sees a sticker that is not there. Description, checks and score then all follow from that perception, as they do
in a real model's reasoning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from editr1.stickers import People
from editr1.stickers.compare import reasoning
from editr1.stickers.faults import StickerEdit
from editr1.stickers.kinds import KINDS
from editr1.stickers.oracle import clean, damage, flaw_cost, utility
from editr1.stickers.scene import Scene, Sticker
from editr1.stickers.tasks import StickerTask
from editr1.types import Check
from editr1.verifier.choose import Answered, choose
from editr1.verifier.render import format_answer


@dataclass(frozen=True, slots=True)
class SimulatedJudge:
    """A simulated vision-language judge. All rates are probabilities per edit.

    Attributes:
        overlooks_flaws: does not see noise, blur, frame or garish colours.
        overlooks_drift: does not see that backdrop, style or tone changed unasked.
        overlooks_bystanders: does not see what happened to a sticker that nobody asked about.
        sees_what_was_asked: takes a half-followed instruction for followed.
        hallucinates: sees a sticker that is not there.
        flips: per check, answers against its own perception.
        severity: factor on its deductions from the score; 1 is the oracle's.
        score_noise: standard deviation of its score.
        step: its scores are multiples of this.
    """

    name: str
    overlooks_flaws: float = 0.0
    overlooks_drift: float = 0.0
    overlooks_bystanders: float = 0.0
    sees_what_was_asked: float = 0.0
    hallucinates: float = 0.0
    flips: float = 0.0
    severity: float = 1.0
    score_noise: float = 0.0
    step: float = 0.1

    def perceive(self, edit: StickerEdit, rng: Random) -> Scene:
        """What it believes to see in the edited picture."""
        task, seen = edit.task, edit.scene
        if rng.random() < self.overlooks_flaws:
            seen = clean(seen)
        if rng.random() < self.overlooks_drift:
            seen = _forgive_drift(task, seen)
        if rng.random() < self.overlooks_bystanders:
            seen = _forgive_bystanders(task, seen)
        if rng.random() < self.sees_what_was_asked and seen != task.before:
            seen = _grant_steps(task, seen)
        if rng.random() < self.hallucinates and seen.free_cells:
            unseen = [k for k in KINDS if all(s.find(k) is None for s in (task.before, task.after, seen))]
            seen = seen.put(Sticker(rng.choice(unseen), rng.choice(seen.free_cells)))
        return seen

    def score(self, edit: StickerEdit, seen: Scene, rng: Random) -> float:
        """Its final score for what it perceives, in [0, 10]."""
        task, worth = edit.task, utility(edit.task, seen)
        if edit.worth is not None:  # the scene does not say all; what is misperceived counts as ever
            worth = min(max(worth + edit.worth - utility(task, edit.scene), 0.0), 10.0)
        if worth > 0:
            worth -= (self.severity - 1) * (damage(task, seen) + flaw_cost(seen))
            worth += rng.gauss(0, self.score_noise)
        return min(max(round(worth / self.step) * self.step, 0.0), 10.0)

    def trace(self, edit: StickerEdit, seed: int = 0) -> SimulatedTrace:
        """Its whole answer; a function of judge, edit and seed."""
        rng = Random(f"sticker-trace/{self.name}/{edit.id}/{seed}")
        seen = self.perceive(edit, rng)
        checks = []
        for probe in edit.task.probes:
            met, found = probe.test(seen)
            said = met != (rng.random() < self.flips)
            checks.append(Check(probe.principle, said, f"{probe.asked}? {found}"))
        return SimulatedTrace(
            self.name,
            reasoning(edit.task.before, seen, edit.task.known),
            tuple(checks),
            self.score(edit, seen, rng),
        )


@dataclass(frozen=True, slots=True)
class SimulatedTrace:
    """What a simulated judge answered; `text` is the whole answer in the form that the verifier writes."""

    judge: str
    reasoning: str
    checks: tuple[Check, ...]
    score: float

    def text(self, echo_question: bool = False) -> str:
        """The whole answer, as `parse_verdict` reads it."""
        return format_answer(self.reasoning, self.checks, self.score, echo_question=echo_question)


def _forgive_drift(task: StickerTask, seen: Scene) -> Scene:
    if "backdrop" not in task.touches:
        seen = replace(seen, backdrop=task.before.backdrop)
    if not {"style", "tone"} & task.touches:
        seen = replace(seen, style=None, tone=None)
    return seen


def _forgive_bystanders(task: StickerTask, seen: Scene) -> Scene:
    for old in task.before.stickers:
        blocked = any(s.cell == old.cell and s.kind != old.kind for s in seen.stickers)
        if old.kind not in task.touches and not blocked:
            seen = seen.put(old)
    return seen


def _grant_steps(task: StickerTask, seen: Scene) -> Scene:
    for step, share in zip(task.steps, task.progress(seen), strict=True):
        if 0 < share < 1 or (share == 0 and seen != task.before):
            seen = step.apply(seen)
    return seen if len({s.cell for s in seen.stickers}) == len(seen.stickers) else task.after


JUDGES: dict[str, SimulatedJudge] = {
    j.name: j
    for j in (
        SimulatedJudge(
            "lenient",
            overlooks_flaws=0.08,
            overlooks_drift=0.08,
            overlooks_bystanders=0.05,
            sees_what_was_asked=0.05,
            hallucinates=0.005,
            flips=0.02,
            severity=0.7,
            score_noise=0.2,
        ),
        SimulatedJudge(
            "hasty",
            overlooks_flaws=0.03,
            overlooks_drift=0.05,
            overlooks_bystanders=0.08,
            sees_what_was_asked=0.03,
            hallucinates=0.01,
            flips=0.04,
            severity=1.0,
            score_noise=0.4,
            step=0.5,
        ),
        SimulatedJudge(
            "keen",
            overlooks_flaws=0.025,
            overlooks_drift=0.025,
            overlooks_bystanders=0.02,
            sees_what_was_asked=0.015,
            hallucinates=0.005,
            flips=0.015,
            severity=1.1,
            score_noise=0.1,
        ),
        SimulatedJudge(
            "picky",
            overlooks_flaws=0.01,
            overlooks_drift=0.04,
            overlooks_bystanders=0.03,
            sees_what_was_asked=0.005,
            hallucinates=0.02,
            flips=0.02,
            severity=1.5,
            score_noise=0.2,
        ),
    )
}
"""The pool that writes traces for cold-start SFT."""

STRICT = SimulatedJudge("strict", overlooks_flaws=0.01, overlooks_drift=0.01, overlooks_bystanders=0.01, flips=0.01)
"""The strict verifier: better than the pool, not perfect. It gives gold answers, not traces."""


def choose_trace(edit: StickerEdit, traces: int = 2, seed: int = 0) -> SimulatedTrace:
    """The best of the pool's traces on one edit, by the paper's rule (section 4, step 6).

    Highest accuracy against the strict verifier's gold, then higher average, then higher score, then smaller index.

    Args:
        edit: the edit to judge.
        traces: how many each judge writes.
        seed: of the traces and of the gold.
    """
    gold = [c.met for c in STRICT.trace(edit, seed).checks]
    answers = [judge.trace(edit, seed * traces + n) for judge in JUDGES.values() for n in range(traces)]
    said = [Answered(met := tuple(c.met for c in a.checks), sum(met) / len(met), a.score) for a in answers]
    return answers[choose(said, gold)]


@dataclass(frozen=True, slots=True)
class SimulatedHuman:
    """A simulated human who compares two edits: utility plus noise, and "same" when they seem alike.

    Attributes:
        noise: standard deviation of what each edit seems worth, on the scale of 0 to 10.
        same_below: differences smaller than this are "same".
        minds_changes, minds_flaws: weights of unasked changes and of technical flaws in what an edit is worth to this
            human; 1 is the oracle's.
    """

    name: str
    noise: float = 0.8
    same_below: float = 0.5
    minds_changes: float = 1.0
    minds_flaws: float = 1.0

    def worth(self, edit: StickerEdit) -> float:
        """What an edit is worth to this human before noise, in [0, 10]."""
        weights = {"minds_changes": self.minds_changes, "minds_flaws": self.minds_flaws}
        return utility(edit.task, edit.scene, **weights)

    def prefers(self, first: StickerEdit, second: StickerEdit, seed: int = 0) -> int:
        """1 for the first, -1 for the second, 0 for "same"; both must be edits of one task."""
        return self.compares(self.worth(first), self.worth(second), f"{first.id}/{second.id}/{seed}")

    def compares(self, first: float, second: float, occasion: str) -> int:
        """The same of two edits that are worth so much to this human before noise; `occasion` names the draw of it."""
        rng = Random(f"sticker-human/{self.name}/{occasion}")
        gap = sum(sign * (worth + rng.gauss(0, self.noise)) for sign, worth in ((1, first), (-1, second)))
        return 0 if abs(gap) < self.same_below else (1 if gap > 0 else -1)


PEOPLE: dict[People, tuple[SimulatedHuman, ...]] = {
    "plain": (SimulatedHuman("ann"), SimulatedHuman("bo", 1.1, 0.7)),
    "exacting": (
        SimulatedHuman("cy", same_below=0.9, minds_changes=3.0, minds_flaws=0.4),
        SimulatedHuman("dee", 1.1, 1.1, minds_changes=3.0, minds_flaws=0.4),
    ),
}
"""Groups of humans: "plain" ones have the oracle's taste; to "exacting" ones, unasked changes matter more,
and noise, blur and frames less, than to the judges that wrote the traces: there is something to learn from them
(decision 0006)."""

HUMANS: dict[str, SimulatedHuman] = {human.name: human for group in PEOPLE.values() for human in group}
"""All of them by name."""

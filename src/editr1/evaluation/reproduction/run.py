"""Do the steps of a plan that are not done yet, and write a file with a manifest for each.

<out>/config.json        what the reproduction was started with
<out>/steps/<step>.json  {step, title, state, why, result, manifest}; what is there is not done again
<out>/times.jsonl        seconds of every attempt, those that were interrupted too
<out>/logs/<step>.log    what the step's command said
<out>/<step>/            what the step's command wrote
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatch
from functools import cache, partial
from pathlib import Path
from typing import Any

from editr1.errors import ConfigError, Editr1Error
from editr1.evaluation.reproduction.freshness import make_room, recipes_of
from editr1.evaluation.reproduction.places import SHIPPED_MODELS, MissingInput, Place, read_json
from editr1.evaluation.reproduction.plan import Step
from editr1.evaluation.reproduction.together import Execute, as_they_end, no_failure_once
from editr1.files import write_json
from editr1.rundir import describe_environment

NOT_TRIED = "not made yet"
"""Why a step is missing that no run has come to."""


class State(StrEnum):
    """What became of a step."""

    MADE = "made"
    SHIPPED = "shipped"
    MISSING = "missing"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step as it stands.

    Attributes:
        step, title: whose.
        state: `made` here, `shipped` with editr1, `missing` or `failed`.
        why: for the latter two, in a sentence.
        result: of a step that was made or shipped.
        manifest: how it came about.
    """

    step: str
    title: str
    state: State
    why: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def there(self) -> bool:
        """Whether there is a result."""
        return self.state in (State.MADE, State.SHIPPED)

    @property
    def seconds(self) -> float:
        """Spent on it, over all attempts, where it was made."""
        return float(self.manifest.get("seconds", 0.0))

    def to_dict(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "step": self.step,
            "title": self.title,
            "state": self.state.value,
            "why": self.why,
            "result": dict(self.result),
            "manifest": dict(self.manifest),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """Inverse of `to_dict`.

        Raises:
            KeyError, ValueError: if it is none.
        """
        return cls(
            data["step"], data["title"], State(data["state"]), data["why"], dict(data["result"]), dict(data["manifest"])
        )


Report = Callable[[str], None]


def execute(arguments: Sequence[str], log: Path) -> int:
    """Run `editr1 ...` in a process of its own, so that its memory is free afterwards."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ editr1 {' '.join(arguments)}\n")
        file.flush()
        return subprocess.run(
            [sys.executable, "-m", "editr1", *arguments], stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode


def start(place: Place) -> None:
    """Bind a folder to what the reproduction is started with.

    Raises:
        ConfigError: if it holds one of the other kind: trained here, or from checkpoints.
    """
    path = place.out / "config.json"
    settings = place.settings.to_dict()
    if path.is_file():
        former = read_json(path).get("from_checkpoints")
        if former != settings["from_checkpoints"]:
            said = "from checkpoints" if former else "trained from scratch"
            raise ConfigError(f"{place.out} holds a reproduction {said}: choose another --out")
    if not path.is_file() or read_json(path) != settings:
        write_json(path, settings)


def select(
    steps: Sequence[Step], only: Sequence[str], use: Iterable[str] = (), *, from_checkpoints: bool = False
) -> list[Step]:
    """The steps that are asked for, with those that they need, in the order of the plan.

    Args:
        steps: the plan.
        only: names, groups ("accuracy") or patterns ("*/small"); none asks for all.
        use: steps that are given, and therefore need nothing.
        from_checkpoints: whether steps that train are taken from what ships, and therefore need nothing.

    Raises:
        ConfigError: if a name fits no step.
    """
    for pattern in (*only, *use):
        if not any(_fits(step.name, pattern) for step in steps):
            raise ConfigError(f"no step is called {pattern!r}: see  editr1 reproduce --list")
    given = set(use)
    wanted = {s.name for s in steps if (any(_fits(s.name, p) for p in only) if only else not s.auxiliary)}
    for step in reversed(steps):  # a step comes after those that it needs
        if step.name in wanted and step.name not in given and not (from_checkpoints and step.trains):
            wanted |= set(step.needs)
    return [step for step in steps if step.name in wanted]


def _fits(name: str, pattern: str) -> bool:
    return fnmatch(name, pattern) or name.startswith(f"{pattern}/")


def run_plan(
    place: Place, steps: Sequence[Step], *, run: Execute = execute, report: Report = lambda text: None, jobs: int = 1
) -> list[Outcome]:
    """Do what is not done. A step that fails, or lacks something, is recorded, and the rest goes on.

    Args:
        place: of everything.
        steps: see `select`.
        run: runs a command.
        report: told what is done.
        jobs: how many steps are done at a time, at most; a step waits for those that it needs.
    """
    start(place)
    outcomes: dict[str, Outcome] = {}
    places = {step.name: f"[{number}/{len(steps)}] {step.name}" for number, step in enumerate(steps, start=1)}
    stopping = threading.Event()
    run = no_failure_once(stopping, run)

    def do(step: Step) -> Outcome:
        return _outcome(place, step, outcomes, run, partial(_prefixed, report, places[step.name]), jobs)

    for step, outcome in as_they_end(steps, do, jobs, stopping):
        outcomes[step.name] = outcome
        if not outcome.there:
            report(f"{places[step.name]}: {outcome.state.value}: {outcome.why}")
    return [outcomes[step.name] for step in steps]


def _prefixed(report: Report, where: str, text: str) -> None:
    report(f"{where}: {text}")


def read_outcomes(place: Place, steps: Sequence[Step]) -> list[Outcome]:
    """The steps as they stand; those that were never tried are missing."""
    found = []
    for step in steps:
        former = _former(place, step)
        found.append(former or Outcome(step.name, step.title, State.MISSING, NOT_TRIED))
    return found


def _outcome(
    place: Place, step: Step, outcomes: Mapping[str, Outcome], run: Execute, tell: Report, jobs: int
) -> Outcome:
    """The outcome of a step, made now if need be, and written down if it is a new one."""
    former = _former(place, step)
    try:
        outcome = _given(place, step) or _make(place, step, outcomes, former, run, tell, jobs)
    except MissingInput as exc:
        outcome = _from_shipped_file(place, step) or Outcome(step.name, step.title, State.MISSING, str(exc))
    except Editr1Error as exc:
        outcome = Outcome(step.name, step.title, State.FAILED, str(exc))
    if former is None or _content(former) != _content(outcome):
        write_json(place.state_file(step.name), outcome.to_dict())
        return outcome
    return former


def _given(place: Place, step: Step) -> Outcome | None:
    """The outcome of a step that is not made here: given by the user, or a training for which checkpoints ship.

    Raises:
        MissingInput: if it is not there.
    """
    if step.name in place.settings.use:
        manifest = {"given": place.settings.use[step.name].as_posix(), "key": ""}
        result = step.collect(place)
        return Outcome(step.name, step.title, State.MADE, "", result, manifest | {"key": _hash([result])})
    if not (place.settings.from_checkpoints and step.trains):
        return None
    if step.name not in SHIPPED_MODELS:
        raise MissingInput("no result of it ships with this version")
    result = step.collect(place)
    return Outcome(step.name, step.title, State.SHIPPED, "", result, {"key": _hash([result])})


def _from_shipped_file(place: Place, step: Step) -> Outcome | None:
    """The result that ships for a step, if one does and is asked for."""
    path = place.shipped_file(step.name)
    if not place.settings.from_checkpoints or not path.is_file():
        return None
    found = Outcome.from_dict(read_json(path))
    return Outcome(step.name, step.title, State.SHIPPED, "", found.result, found.manifest)


def _make(
    place: Place,
    step: Step,
    outcomes: Mapping[str, Outcome],
    former: Outcome | None,
    run: Execute,
    tell: Report,
    jobs: int,
) -> Outcome:
    """Make a step, unless it was made before of the same things.

    Raises:
        MissingInput: if something it needs is not there.
        Editr1Error: if what it left cannot be read.
    """
    for name in step.needs:
        if not outcomes[name].there:
            how = "failed" if outcomes[name].state is State.FAILED else "is missing"
            raise MissingInput(f"{name} {how}: {outcomes[name].why}")
    command = None if step.command is None else step.command(place)
    needs = {name: outcomes[name].manifest["key"] for name in step.needs}
    recipes = recipes_of(command or ())
    key = _hash([step.name, command, needs, recipes, None if command else place.settings.seed])
    if former is not None and former.state is State.MADE and former.manifest.get("asked") == key:
        return former
    if command is not None and (aside := make_room(place, step.name, command, needs)) is not None:
        tell(f"what it is made of has changed: the former folder is {aside} now")
    tell("editr1 " + " ".join(command) if command else "computing")
    begun, code = time.monotonic(), 0
    try:
        if command is not None:
            code = run(command, place.log_file(step.name))
        result = _collect(place, step, code)
    finally:
        _note_time(place, step.name, time.monotonic() - begun)
    manifest = {
        "asked": key,
        "key": _hash([key, result]),
        "command": command,
        "exit_code": code,
        "needs": needs,
        "recipes": recipes,
        "settings": place.settings.to_dict(),
        **_times(place, step.name),
        "jobs": jobs,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": _environment(),
    }
    return Outcome(step.name, step.title, State.MADE, "", result, manifest)


def _collect(place: Place, step: Step, code: int) -> dict[str, Any]:
    """What the step left.

    Raises:
        Editr1Error: if the command failed; its last line says why. Exit code 1 says that some items failed, which the
            result counts.
    """
    if code not in (0, 1):
        raise StepError(f"its command ended with code {code}: {_last_line(place.log_file(step.name))}")
    try:
        return step.collect(place)
    except MissingInput as exc:
        if not code:
            raise
        raise StepError(f"its command ended with code 1: {_last_line(place.log_file(step.name))}") from exc


class StepError(Editr1Error, RuntimeError):
    """A step's command that failed."""


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    said = [line for line in lines if line.strip() and not line.startswith("$ ")]
    return f"{said[-1].strip()[:300]} (all of it is in {log})" if said else "it said nothing"


def _former(place: Place, step: Step) -> Outcome | None:
    path = place.state_file(step.name)
    if not path.is_file():
        return None
    try:
        return Outcome.from_dict(read_json(path))
    except (Editr1Error, KeyError, ValueError):
        return None  # a file of another version: made again


def _content(outcome: Outcome) -> tuple[Any, ...]:
    """What tells two outcomes apart: not when they were found."""
    return (outcome.state, outcome.why, json.dumps(outcome.result, sort_keys=True), outcome.manifest.get("key"))


_TIMES = threading.Lock()


def _note_time(place: Place, step: str, seconds: float) -> None:
    with _TIMES, (place.out / "times.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "seconds": round(seconds, 1)}) + "\n")


def _times(place: Place, step: str) -> dict[str, Any]:
    """Seconds of all attempts at a step, and how many there were."""
    with _TIMES:
        lines = (place.out / "times.jsonl").read_text(encoding="utf-8").splitlines()
    spent = [row["seconds"] for row in map(json.loads, lines) if row["step"] == step]
    return {"seconds": round(sum(spent), 1), "attempts": len(spent)}


@cache
def _environment() -> dict[str, Any]:
    """Code, machine, and the packages that figures depend on; they do not change while this runs."""
    found = describe_environment()
    wanted = ("torch", "transformers", "trl", "diffusers", "peft", "numpy")
    packages = {name: found["packages"][name] for name in wanted if name in found["packages"]}
    kept = {key: found[key] for key in ("revision", "python", "platform", "machine")}
    return kept | {"packages": packages, "threads": os.environ.get("OMP_NUM_THREADS")}


def _hash(parts: list[Any]) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]

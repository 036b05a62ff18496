"""Whole runs on stickers: killed anywhere and continued, changed, and with judges that fail."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from editr1.curation import edit as edit_stage
from editr1.curation import run as run_module
from editr1.curation import shards
from editr1.curation.recipe import CurationRecipe
from editr1.curation.run import Curation
from editr1.curation.workshop import STAGES, build_curation_judge
from editr1.errors import DataError, JudgeError
from editr1.judges import ChatReply, ReplyStatus


class Killed(BaseException):
    """In the place of a signal: nothing catches it."""


class Calls:
    """Counts what is asked, per request and judge; kills the run after so many answers; may let answers fail."""

    def __init__(self, *, kill_after: int | None = None, fail: Callable[[str], ChatReply | None] | None = None) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.by_role: Counter[str] = Counter()
        self.kill_after = kill_after
        self.fail = fail
        self._lock = threading.Lock()

    def build(self, settings: Any, role: str, workshop: Any) -> Any:
        return _Counted(build_curation_judge(settings, role, workshop), role, self)

    def seen(self, judge: Any, request: Any, role: str) -> None:
        with self._lock:
            if self.kill_after is not None and sum(self.counts.values()) >= self.kill_after:
                raise Killed
            self.counts[judge.fingerprint, request.fingerprint()] += 1
            self.by_role[role] += 1


class _Counted:
    def __init__(self, judge: Any, role: str, calls: Calls) -> None:
        self.judge, self.role, self.calls = judge, role, calls
        self.name, self.fingerprint = judge.name, judge.fingerprint

    def chat(self, requests, *, on_reply=None):
        replies = []
        for index, request in enumerate(requests):
            self.calls.seen(self, request, self.role)
            failed = self.calls.fail and self.calls.fail(self.fingerprint + request.fingerprint())
            replies.append(failed or self.judge.chat([request])[0])
            if on_reply is not None:
                on_reply(index, replies[-1])
        return replies


def exported(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted((folder / "export").rglob("*.*"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {"folder": tmp_path_factory.mktemp("whole")}


@pytest.fixture
def uninterrupted(whole: dict[str, Any], sticker_recipe) -> dict[str, Any]:
    """One run to compare with, made once."""
    if "calls" not in whole:
        whole["calls"] = Calls()
        whole["recipe"] = sticker_recipe()
        whole["result"] = Curation(whole["recipe"], whole["folder"], build=whole["calls"].build).run()
    return whole


def test_the_pipeline_from_end_to_end(uninterrupted) -> None:
    result, folder = uninterrupted["result"], uninterrupted["folder"]
    stages = result.stages
    assert stages["select"].outputs == stages["decompose"].outputs == 6
    edits = stages["edit"].outputs
    assert edits + stages["edit"].rejects["same picture"] == 12
    assert sum(result.rows.values()) == stages["choose"].outputs == edits
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["trace"]["judges"]["simulated-lenient"]["calls"] == 2 * edits
    assert manifest["verify"]["judges"]["simulated-strict"]["calls"] == edits
    assert manifest["verify"]["prompts"].keys() == {"verify"}
    assert set(uninterrupted["calls"].counts.values()) == {1}
    rows = [r for p in (folder / "export").rglob("*.parquet") for r in shards.read_rows(p)]
    assert {r["subset"] for r in rows} == {"random", "hard"}
    for row in rows:
        accuracy = sum(c["met"] == g["met"] for c, g in zip(row["checks"], row["gold"])) / len(row["gold"])
        assert row["accuracy"] == pytest.approx(accuracy)
        assert [c["mode"] for c in row["chats"]][:4] == ["think+verify", "think", "verify", "viescore"]
    split = [r["context"] for r in rows if r["chats"][-1]["mode"] == "decompose"]
    assert sorted(split) == sorted({r["context"] for r in rows})  # once for each context


def test_the_same_command_again_asks_nobody(uninterrupted) -> None:
    before, calls = exported(uninterrupted["folder"]), Calls(kill_after=0)
    Curation(uninterrupted["recipe"], uninterrupted["folder"], build=calls.build).run()
    assert exported(uninterrupted["folder"]) == before


def test_seconds_are_those_of_all_runs(uninterrupted) -> None:
    """A run that has nothing left to do takes the seconds of its stages from their files."""
    manifests = []
    for _ in range(2):
        result = Curation(uninterrupted["recipe"], uninterrupted["folder"], build=Calls(kill_after=0).build).run()
        manifests.append(json.loads((uninterrupted["folder"] / "manifest.json").read_text()))
    for stage in result.stages:
        assert manifests[0][stage]["seconds"] == manifests[1][stage]["seconds"]
        assert stage == "choose" or manifests[0][stage]["seconds"] > 0


def test_killed_after_any_number_of_answers_it_goes_on(uninterrupted, tmp_path: Path) -> None:
    """Kill the run again and again, each time a few answers later, until it gets through."""
    total = sum(uninterrupted["calls"].counts.values())
    calls, kills = Calls(), 0
    for kill_after in [*range(3, total, 11), None]:
        calls.kill_after = kill_after
        try:
            Curation(uninterrupted["recipe"], tmp_path, build=calls.build).run()
        except Killed:
            kills += 1
    assert kills >= 5
    assert calls.by_role.keys() == {"select", "decompose", "trace", "verify"}
    assert calls.counts == uninterrupted["calls"].counts
    assert set(calls.counts.values()) == {1}
    assert exported(tmp_path) == exported(uninterrupted["folder"])


@pytest.mark.parametrize(
    ("stage", "moment"), [*((stage, "before") for stage in (*STAGES, "export")), ("select", "after"), ("edit", "after")]
)
def test_killed_around_the_writing_of_a_file_it_goes_on(
    uninterrupted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, moment: str
) -> None:
    calls, written, real = Calls(), Counter[str](), shards.write_table

    def write_table(path: Path, *args: Any) -> Path:
        of = "export" if "export" in path.parts else path.parent.name
        written[of] += 1
        if of == stage and written[of] == 2 and moment == "before":
            raise Killed
        real(path, *args)
        if of == stage and written[of] == 2:
            raise Killed
        return path

    monkeypatch.setattr(shards, "write_table", write_table)
    with pytest.raises(Killed):
        Curation(uninterrupted["recipe"], tmp_path, build=calls.build).run()
    Curation(uninterrupted["recipe"], tmp_path, build=calls.build).run()
    assert calls.counts == uninterrupted["calls"].counts
    assert exported(tmp_path) == exported(uninterrupted["folder"])


def test_killed_while_editing_no_edit_is_made_twice(
    uninterrupted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, left, real = Counter[str](), [3], edit_stage.KeptEdits.put

    def put(self, job: str, data: bytes) -> None:
        real(self, job, data)
        made[job] += 1
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(edit_stage.KeptEdits, "put", put)
    with pytest.raises(Killed):
        Curation(uninterrupted["recipe"], tmp_path).run()
    Curation(uninterrupted["recipe"], tmp_path).run()
    assert len(made) == 12
    assert set(made.values()) == {1}
    assert exported(tmp_path) == exported(uninterrupted["folder"])
    assert not list((tmp_path / "journal" / "edit").iterdir())  # what is in a shard is not kept beside it


@pytest.mark.parametrize(
    ("override", "asked"),
    [
        ("verify.max_hints=3", {"verify"}),
        ("trace.temperatures=[0.9]", {"trace", "verify"}),
        ("export.least_accuracy=0.9", set()),
        ("export.keep_all_met=0.5", set()),
        ('export.modes=["verify"]', set()),
    ],
)
def test_a_change_makes_anew_what_follows_from_it_and_no_more(
    uninterrupted, sticker_recipe, tmp_path: Path, override: str, asked: set[str]
) -> None:
    shutil.copytree(uninterrupted["folder"], tmp_path, dirs_exist_ok=True)
    calls = Calls()
    recipe = sticker_recipe(override)
    Curation(recipe, tmp_path, build=calls.build).run()
    assert calls.by_role.keys() == asked
    fresh = tmp_path / "fresh"
    Curation(recipe, fresh).run()
    assert exported(tmp_path) == exported(fresh)  # and nothing of the former export is left


def test_a_judge_who_joins_the_pool_costs_only_his_own_calls(uninterrupted, sticker_recipe, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted["folder"], tmp_path, dirs_exist_ok=True)
    calls = Calls()
    pool = 'trace.judges=[{simulated="lenient"}, {simulated="keen"}, {simulated="picky"}]'
    Curation(sticker_recipe(pool), tmp_path, build=calls.build).run()
    assert calls.by_role["trace"] == uninterrupted["calls"].by_role["trace"] / 2


def test_an_editor_who_joins_costs_only_his_own_edits(
    uninterrupted, sticker_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(uninterrupted["folder"], tmp_path, dirs_exist_ok=True)
    made: list[str] = []
    monkeypatch.setattr(edit_stage.KeptEdits, "put", lambda self, job, data: made.append(job))
    editors = ", ".join(f'{{kind="stickers", model="{name}"}}' for name in ("careful", "rough", "sloppy"))
    Curation(sticker_recipe(f"edit.editors=[{editors}]"), tmp_path).run()
    assert 6 <= len(made) < 18


def fails(share: float) -> Callable[[str], ChatReply | None]:
    """Fails a share of calls, each by one of four kinds; which ones is a function of the request."""
    kinds = [
        ChatReply(ReplyStatus.TIMEOUT, error="no answer in time"),
        ChatReply(ReplyStatus.ERROR, error="HTTP 500"),
        ChatReply(ReplyStatus.REFUSED, error="no"),
        ChatReply(ReplyStatus.OK, 'Certainly! {"score": 11, "gold": [1, 1'),
    ]

    def fail(key: str) -> ChatReply | None:
        draw = random.Random(hashlib.sha256(key.encode()).digest())
        return draw.choice(kinds) if draw.random() < share else None

    return fail


def test_a_judge_that_fails_three_calls_in_ten_is_survived(sticker_recipe, tmp_path: Path) -> None:
    recipe = sticker_recipe("select.random=12", "select.hard=4", "shard_size=4")
    calls = Calls(fail=fails(0.3))
    result = Curation(recipe, tmp_path / "a", build=calls.build).run()
    stages = result.stages
    assert stages["trace"].failures.keys() >= {"timeout", "error", "refused"}
    assert any(kind.startswith("unparseable") for kind in stages["trace"].failures)
    assert {"timeout", "error", "refused"} & stages["decompose"].rejects.keys()
    assert {"timeout", "error", "refused"} & stages["verify"].rejects.keys()
    for stage in ("decompose", "trace", "verify", "choose"):  # nobody gets lost
        assert stages[stage].inputs == stages[stage].outputs + sum(stages[stage].rejects.values())
    rows = [r for p in (tmp_path / "a" / "export").rglob("*.parquet") for r in shards.read_rows(p)]
    assert len(rows) == sum(result.rows.values()) > 5
    files = {stage: sorted((tmp_path / "a" / "work" / stage).glob("*.parquet")) for stage in STAGES}
    said = set()  # every number in the export stands in an answer of some judge
    for path in files["trace"]:
        for row in shards.read_rows(path):
            said |= {(row["parent"], t["text"].rpartition("<score>")[2]) for t in row["traces"]}
    assert {(r["id"], f"{r['score']:.1f}</score>") for r in rows} <= said
    rejects = [json.loads(line) for line in (tmp_path / "a" / "rejects.jsonl").read_text().splitlines()]
    assert Counter((r["stage"], r["kind"]) for r in rejects) == Counter(
        {(stage, kind): count for stage in STAGES for kind, count in stages[stage].rejects.items()}
    )
    again = Calls(fail=fails(0.3), kill_after=40)  # the same failures, and a kill in between
    with pytest.raises(Killed):
        Curation(recipe, tmp_path / "b", build=again.build).run()
    again.kill_after = None
    Curation(recipe, tmp_path / "b", build=again.build).run()
    assert exported(tmp_path / "a") == exported(tmp_path / "b")


def test_what_failed_can_be_asked_again(sticker_recipe, uninterrupted, tmp_path: Path) -> None:
    recipe = uninterrupted["recipe"]

    def fail(key: str) -> ChatReply | None:
        found = fails(0.3)(key)
        return found if found is not None and found.status in (ReplyStatus.TIMEOUT, ReplyStatus.ERROR) else None

    Curation(recipe, tmp_path, build=Calls(fail=fail).build).run()
    assert exported(tmp_path) != exported(uninterrupted["folder"])
    well = Calls()
    Curation(recipe, tmp_path, build=well.build).run()
    assert not well.counts  # a failure is final, unless it is said otherwise
    Curation(recipe, tmp_path, build=well.build, retry_failed=True).run()
    assert exported(tmp_path) == exported(uninterrupted["folder"])
    assert 0 < sum(well.counts.values()) < sum(uninterrupted["calls"].counts.values())


def test_a_judge_that_is_gone_stops_the_run_which_goes_on_later(uninterrupted, tmp_path: Path) -> None:
    lock, answered = threading.Lock(), list[str]()

    def gone(key: str) -> ChatReply | None:
        with lock:
            if len(answered) < 30:
                answered.append(key)
                return None
        return ChatReply(ReplyStatus.ERROR, error="no connection")

    calls = Calls(fail=gone)
    with pytest.raises(JudgeError, match="stopped answering.*no connection"):
        Curation(uninterrupted["recipe"], tmp_path, build=calls.build).run()
    calls = Calls()
    Curation(uninterrupted["recipe"], tmp_path, build=calls.build).run()
    assert sum(calls.counts.values()) == sum(uninterrupted["calls"].counts.values()) - 30
    assert exported(tmp_path) == exported(uninterrupted["folder"])


@pytest.mark.parametrize("stage", ["select", "edit", "choose"])
def test_a_damaged_shard_is_named_and_a_lost_one_made_anew(uninterrupted, tmp_path: Path, stage: str) -> None:
    shutil.copytree(uninterrupted["folder"], tmp_path, dirs_exist_ok=True)
    path = next((tmp_path / "work" / stage).glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-200])
    calls = Calls()
    with pytest.raises(DataError, match=f"{path.name} cannot be read.*delete it"):
        Curation(uninterrupted["recipe"], tmp_path, build=calls.build).run()
    path.unlink()
    Curation(uninterrupted["recipe"], tmp_path, build=calls.build).run()
    assert not calls.counts
    assert exported(tmp_path) == exported(uninterrupted["folder"])


def test_one_shard_is_held_at_a_time(sticker_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many shards there are, a stage is given the records of one."""
    largest = Counter[str]()
    real = run_module.Workshop.process

    def process(self, stage: str, records: Any, name: str, **rest: Any) -> Any:
        largest[stage] = max(largest[stage], len(records))
        return real(self, stage, records, name, **rest)

    monkeypatch.setattr(run_module.Workshop, "process", process)
    recipe: CurationRecipe = sticker_recipe("select.random=10", "select.hard=0", "trace.samples=1")
    Curation(recipe, tmp_path).run()
    assert largest["decompose"] == largest["edit"] == 2
    assert largest["trace"] <= 4

"""Editors and the stage that runs them."""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editr1.curation.edit import Failed, KeptEdits, edit
from editr1.curation.editors import DiffusersEditor, FolderEditor, ServerEditor, TrainedEditor
from editr1.curation.stickers import StickerContexts, StickerEditor, StickerIndex, StickerJudge
from editr1.errors import ConfigError, DataError, JudgeError, ModelError
from editr1.judges import ChatRequest, Message, Picture, ReplyStatus
from editr1.stickers.annotators import STRICT
from editr1.stickers.draw import draw
from editr1.stickers.faults import EDITORS
from editr1.stickers.tasks import sample_task


class Painter:
    """An editor that paints in a colour for each sample."""

    def __init__(self, make, name: str, colors: str = "rgb", calls: list[str] | None = None) -> None:
        self.make, self.name, self.fingerprint, self.colors = make, name, f"painter:{name}", colors
        self.calls = [] if calls is None else calls

    def edit(self, jobs, *, on_edit) -> None:
        names = {"r": "red", "g": "green", "b": "blue"}
        for index, job in enumerate(jobs):
            self.calls.append(job.id)
            color = self.colors[job.sample]
            if color in names:
                on_edit(index, self.make.png(names[color]))
            elif color == "x":
                on_edit(index, b"no picture")
            elif color == "f":
                on_edit(index, Failed("refused", "no"))


def test_edits_come_by_context_editor_and_sample(make) -> None:
    contexts = [make.decomposed(n) for n in (0, 1)]
    result = edit(contexts, editors=[(Painter(make, "a", "rg"), 2), (Painter(make, "b", "b"), 1)])
    assert [(e.decomposed.id, e.editor) for e in result.records] == [
        ("d0", "a-0"), ("d0", "a-1"), ("d0", "b"), ("d1", "a-0"), ("d1", "a-1"), ("d1", "b"),
    ]  # fmt: skip
    assert len({e.id for e in result.records}) == 6


def test_what_is_no_new_picture_is_rejected_by_kind(make) -> None:
    result = edit([make.decomposed()], editors=[(Painter(make, "a", "rxf-r"), 5)])
    assert [e.editor for e in result.records] == ["a-0"]
    assert [r.kind for r in result.rejects] == ["unreadable", "refused", "missing", "same picture"]
    assert "a-0" in result.rejects[-1].detail


def test_finished_edits_are_not_made_again(make, tmp_path: Path) -> None:
    calls: list[str] = []
    painter = Painter(make, "a", "r", calls)
    kept = KeptEdits(tmp_path / "kept")
    first = edit([make.decomposed(0)], editors=[(painter, 1)], keep=kept)
    again = edit([make.decomposed(n) for n in (0, 1)], editors=[(painter, 1)], keep=KeptEdits(tmp_path / "kept"))
    assert len(calls) == 2
    assert again.records[0] == first.records[0]
    former = {r.job: r.edited for r in again.records}
    edit([make.decomposed(1)], editors=[(painter, 1)], keep=KeptEdits(tmp_path / "none", lambda: former))
    assert len(calls) == 2
    edit([make.decomposed(1)], editors=[(painter, 1)], seed=1, keep=KeptEdits(tmp_path / "none", lambda: former))
    assert len(calls) == 3


def test_a_folder_of_finished_edits(make, tmp_path: Path) -> None:
    (tmp_path / "picture-0-0.png").write_bytes(make.png("red"))
    (tmp_path / "picture-0-1.jpg").write_bytes(make.png("blue"))
    editor = FolderEditor(tmp_path, pattern="{name}-{sample}", name="FLUX")
    result = edit([make.decomposed(n) for n in (0, 1)], editors=[(editor, 2)])
    assert [(e.decomposed.id, e.editor) for e in result.records] == [("d0", "FLUX-0"), ("d0", "FLUX-1")]
    assert [r.kind for r in result.rejects] == ["missing", "missing"]
    assert "picture-1-0.png" in result.rejects[0].detail
    with pytest.raises(DataError, match="names all files alike"):
        FolderEditor(tmp_path, pattern="edit")
    with pytest.raises(DataError, match="no folder"):
        FolderEditor(tmp_path / "nowhere")


@pytest.fixture
def server(make):
    """An images-edit endpoint: answers by what the instruction says."""
    seen: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(body)
            status, data = 200, {"created": 0, "data": [{"b64_json": base64.b64encode(make.png("red")).decode()}]}
            if b"star 1 red" in body:
                status, data = 400, {"error": {"message": "your content_policy", "code": "content_policy_violation"}}
            if b"star 2 red" in body and sum(b"star 2 red" in b for b in seen) < 3:
                status, data = 500, {"error": {"message": "busy"}}
            if b"star 3 red" in body:
                data = {"created": 0, "data": []}
            text = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{http.server_address[1]}/v1", seen
    http.shutdown()
    http.server_close()


def test_a_server_is_asked_and_its_failures_are_told_apart(make, server) -> None:
    url, seen = server
    editor = ServerEditor("org/paint-1", base_url=url, backoff_seconds=0.01, send_seed=True, arguments={"size": "auto"})
    result = edit([make.decomposed(n) for n in range(4)], editors=[(editor, 1)])
    assert [(e.decomposed.id, e.editor) for e in result.records] == [("d0", "paint-1"), ("d2", "paint-1")]
    assert [r.kind for r in result.rejects] == ["refused", "empty"]
    assert sum(b"star 2 red" in body for body in seen) == 3
    assert b'name="seed"' in seen[0]
    assert b'name="size"' in seen[0]
    assert make.context(0).source[:30] in b"".join(seen)


def test_a_server_without_key_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JudgeError, match="OPENAI_API_KEY"):
        ServerEditor("gpt-image-1")


def test_a_pipeline_gets_picture_words_and_own_noise(make, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    class Pipeline:
        @classmethod
        def from_pretrained(cls, model: str, **options: Any) -> Pipeline:
            assert options["use_safetensors"] is True
            return cls()

        def set_progress_bar_config(self, **options: Any) -> None:
            pass

        def to(self, device: str) -> Pipeline:
            return self

        def __call__(self, **options: Any) -> Any:
            calls.append(options)
            return types.SimpleNamespace(images=[Image.new("RGB", (8, 8), (len(calls), 0, 0))])

    monkeypatch.setitem(sys.modules, "diffusers", types.SimpleNamespace(DiffusionPipeline=Pipeline))
    editor = DiffusersEditor("some/model", arguments={"num_inference_steps": 4}, device="cpu")
    result = edit([make.decomposed()], editors=[(editor, 2)])
    assert [e.editor for e in result.records] == ["model-0", "model-1"]
    assert [c["num_inference_steps"] for c in calls] == [4, 4]
    assert calls[0]["prompt"] == "Paint star 0 red."
    assert calls[0]["generator"].initial_seed() != calls[1]["generator"].initial_seed()


def test_simulated_judges_know_the_truth_by_the_pictures() -> None:
    index = StickerIndex("t", 6, [("sloppy", 2)])
    task = sample_task("t", 4)
    made = EDITORS["sloppy"].edit(task, 1)
    assert index.task(draw(task.before)).id == "t/4"
    assert index.edit(draw(task.before), made.picture()).scene == made.scene
    assert index.task(Image.new("RGB", (96, 96))) is None
    judge = StickerJudge("strict", "verify", index)
    pictures = (Picture(draw(task.before)), Picture(made.picture()))
    request = ChatRequest((Message("user", pictures),))
    (reply,) = judge.chat([request])
    assert judge.chat([request]) == [reply]  # a function of the request
    gold = [row["gold"] for row in json.loads(reply.text)]
    assert sum(g == t for g, t in zip(gold, task.truth(made.scene))) >= len(gold) - 1
    stranger = ChatRequest((Message("user", (Picture(Image.new("RGB", (96, 96))), pictures[1])),))
    assert judge.chat([stranger])[0].status is ReplyStatus.ERROR
    assert STRICT.name in judge.name
    assert "simulated" in judge.name


def test_what_a_real_editor_made_is_read_off_the_pixels() -> None:
    """Here an overlay of source and right edit: mostly done. Without `reads` it is not known."""
    task = sample_task("t", 4)
    source = draw(task.before)
    made = Image.blend(source, draw(task.after), 0.9)
    assert StickerIndex("t", 6, [("sloppy", 2)]).edit(source, made) is None
    index = StickerIndex("t", 6, [("sloppy", 2)], reads=True)
    edit = index.edit(source, made)
    assert (edit.task.id, edit.scene) == ("t/4", task.after)
    assert edit.worth > 7
    assert index.edit(source, made) is edit
    assert index.edit(source, EDITORS["sloppy"].edit(task, 1).picture()).worth is None, "that one is known"
    judge = StickerJudge("strict", "trace", index)
    (reply,) = judge.chat([ChatRequest((Message("user", (Picture(source), Picture(made))),))])
    assert reply.status is ReplyStatus.OK


def test_a_trained_editor_makes_its_candidates_in_batches(make, tmp_path: Path) -> None:
    """Each from noise of its own, and the same however they fall into batches."""
    from editr1.editors.sticker_pipeline import save_pipeline
    from editr1.editors.testing import KONTEXT_OPTIONS, tiny_kontext

    folder = save_pipeline(tiny_kontext(), tmp_path / "tiny", KONTEXT_OPTIONS)
    records = [make.decomposed(number) for number in range(2)]
    found = {}
    for size in (1, 3):
        editor = TrainedEditor(str(folder), steps=2, batch_size=size, device="cpu")
        result = edit(records, editors=[(editor, 2)])
        assert [r.editor for r in result.records] == ["tiny-0", "tiny-1"] * 2
        found[size] = [np.asarray(Image.open(io.BytesIO(r.edited))).astype(int) for r in result.records]
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(found[1], found[3], strict=True))
    assert any(np.abs(a - b).max() > 1 for a, b in zip(found[1], found[1][1:]))
    with pytest.raises(ModelError, match="no-such"):
        edit(records, editors=[(TrainedEditor(str(tmp_path / "no-such")), 1)])


def test_sticker_contexts_and_editors_fit_together(make) -> None:
    (row,) = StickerContexts("t", 9).rows([5])
    image = Image.open(io.BytesIO(row.source))
    assert image.tobytes() == draw(sample_task("t", 5).before).tobytes()
    result = edit([make.decomposed()], editors=[(StickerEditor("careful"), 1)])
    assert [r.kind for r in result.rejects] == ["not a sticker task"]
    with pytest.raises(ConfigError, match="careful"):
        StickerEditor("carefull")

"""Pictures made for a benchmark: in the official layout, once, and the same however the work is shared."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editr1.cli.main import run
from editr1.errors import ConfigError
from editr1.evaluation.benchmarks import EDITOR_BENCHMARKS, BenchmarkTask, PictureStore
from editr1.evaluation.generate import EditorSettings, generate, noise_seed, read_generation
from editr1.types import EditKind


@pytest.fixture(scope="module")
def tiny():
    pytest.importorskip("diffusers")
    from editr1.editors import wrap
    from editr1.editors.testing import KONTEXT_OPTIONS, tiny_kontext

    return wrap(tiny_kontext(), KONTEXT_OPTIONS.model_copy(update={"steps": 1}))


@pytest.fixture
def model(tmp_path):
    """A folder that stands for a model's: what it holds enters the folder's hash."""
    folder = tmp_path / "model" / "transformer"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return tmp_path / "model"


@pytest.fixture
def tasks(tmp_path):
    return list(EDITOR_BENCHMARKS["stickers"].tasks("unit:5", PictureStore(tmp_path / "pictures")))


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.png"))}


def same(one, two):
    """Equal pictures, whatever their batch, but for rounding: kernels differ by batch size."""
    assert one.keys() == two.keys()
    for name in one:
        first, second = (np.asarray(Image.open(io.BytesIO(data[name])), int) for data in (one, two))
        assert np.abs(first - second).max() <= 2


def test_pictures_are_made_once_and_lie_where_they_are_looked_for(tasks, tiny, model, tmp_path):
    loaded = []

    def load():
        loaded.append(1)
        return tiny

    settings = EditorSettings(str(model), seed=3)
    advanced = []
    first = generate(tasks, tmp_path / "out", settings, load, batch_size=2, advance=advanced.append)
    assert (first.made, first.before, first.failures, sum(advanced)) == (5, 0, [], 5)
    before = contents(tmp_path / "out")
    assert list(before) == sorted(f"{kind.value}/{i}.png" for i, kind in enumerate(EditKind) if i < 5)
    again = generate(tasks, tmp_path / "out", settings, load)
    assert (again.made, again.before, len(loaded)) == (0, 5, 1), "nothing missing: no editor is loaded"
    (tmp_path / "out" / next(iter(before))).unlink()
    assert generate(tasks, tmp_path / "out", settings, load, batch_size=4).made == 1
    same(contents(tmp_path / "out"), before)
    loaded_back = EDITOR_BENCHMARKS["stickers"].load("unit:5", str(tmp_path / "out"), PictureStore(tmp_path / "p"))
    assert len(loaded_back.samples) == 5
    assert read_generation(tmp_path / "out")["seed"] == 3


def test_two_processes_make_what_one_makes(tasks, tiny, model, tmp_path):
    settings = EditorSettings(str(model))
    generate(tasks, tmp_path / "one", settings, lambda: tiny)
    shares = [generate(tasks, tmp_path / "two", settings, lambda: tiny, share=(n, 2)).made for n in range(2)]
    assert shares == [3, 2]
    same(contents(tmp_path / "two"), contents(tmp_path / "one"))


def test_a_folder_never_mixes_two_editors(tasks, tiny, model, tmp_path):
    settings = EditorSettings(str(model))
    generate(tasks[:1], tmp_path / "out", settings, lambda: tiny)
    with pytest.raises(ConfigError, match="made with another steps, seed"):
        generate(tasks, tmp_path / "out", EditorSettings(str(model), steps=2, seed=1), lambda: tiny)
    (model / "transformer" / "config.json").write_text('{"trained": "anew"}')
    with pytest.raises(ConfigError, match="made with another weights"):
        generate(tasks, tmp_path / "out", settings, lambda: tiny)


def test_a_source_that_cannot_be_read_is_a_failure_and_the_rest_goes_on(tasks, tiny, model, tmp_path):
    tasks[1].source.path.write_bytes(b"torn")
    found = generate(tasks[:3], tmp_path / "out", EditorSettings(str(model)), lambda: tiny)
    assert found.made == 2
    (failure,) = found.failures
    assert failure.startswith("unit/1: ")


def test_seeds_differ_by_task_and_by_run():
    seeds = {noise_seed(key, seed) for key in ("a", "b", "c") for seed in (0, 1)}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_gedits_layout_has_the_source_beside(kit, write_rows, tiny, model, tmp_path):
    row = {
        "task_type": "style_change",
        "key": "k1",
        "instruction": "make it a sketch",
        "instruction_language": "en",
        "input_image": kit.picture(0, 1),
        "Intersection_exist": True,
    }
    gedit = EDITOR_BENCHMARKS["gedit"]
    data = str(write_rows([row, row | {"key": "../k2"}, row | {"task_type": "juggling"}]))
    found = list(gedit.tasks(data, PictureStore(tmp_path / "pictures")))
    (task,) = [t for t in found if isinstance(t, BenchmarkTask)]
    assert [p.kind for p in found if not isinstance(p, BenchmarkTask)] == ["row", "row"]
    generate([task], tmp_path / "out", EditorSettings(str(model)), lambda: tiny)
    assert list(contents(tmp_path / "out")) == [f"fullset/style_change/en/{name}.png" for name in ("k1", "k1_SRCIMG")]
    assert len(gedit.load(data, str(tmp_path / "out"), PictureStore(tmp_path / "p")).samples) == 1


@pytest.mark.parametrize("odd", ["rotated", "transparent", "16 bits"])
def test_gedits_source_is_saved_as_the_editor_saw_it(odd, kit, write_rows, tiny, model, tmp_path):
    """Upright, on white, in 8 bits: the judge is shown it beside the edit."""
    file = io.BytesIO()
    if odd == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (40, 24), "red").save(file, "JPEG", exif=exif)
    elif odd == "transparent":
        Image.new("RGBA", (24, 24), (255, 0, 0, 0)).save(file, "PNG")
    else:
        Image.fromarray(np.full((24, 24), 32768, np.uint16)).save(file, "PNG")
    row = {
        "task_type": "style_change",
        "key": "k1",
        "instruction": "make it a sketch",
        "instruction_language": "en",
        "input_image": file.getvalue(),
        "Intersection_exist": True,
    }
    gedit = EDITOR_BENCHMARKS["gedit"]
    (task,) = gedit.tasks(str(write_rows([row])), PictureStore(tmp_path / "pictures"))
    generate([task], tmp_path / "out", EditorSettings(str(model)), lambda: tiny)
    saved = Image.open(next((tmp_path / "out").rglob("k1_SRCIMG.png")))
    assert saved.mode == "RGB"
    if odd == "rotated":
        assert saved.size == (24, 40)
    else:
        assert saved.getpixel((3, 3)) == ((255, 255, 255) if odd == "transparent" else (128, 128, 128))


def test_imgedits_tasks(kit, tmp_path):
    (tmp_path / "a.png").write_bytes(kit.picture(0, 1))
    rows = {
        "1": {"id": "a.png", "prompt": "add a cup", "edit_type": "add"},
        "2": {"id": "gone.png", "prompt": "add a cup", "edit_type": "add"},
        "x/3": {"id": "a.png", "prompt": "add a cup", "edit_type": "add"},
    }
    (tmp_path / "basic_edit.json").write_text(json.dumps(rows))
    found = list(EDITOR_BENCHMARKS["imgedit"].tasks(str(tmp_path), PictureStore(tmp_path / "p")))
    assert [(t.key, t.place) for t in found if isinstance(t, BenchmarkTask)] == [("1", "1")]
    assert [p.kind for p in found if not isinstance(p, BenchmarkTask)] == ["picture", "row"]


def call(*arguments):
    with pytest.raises(SystemExit) as caught:
        run([str(a) for a in arguments])
    return int(caught.value.code or 0)


@pytest.fixture
def command(tiny, model, tmp_path, monkeypatch):
    import editr1.editors as editors

    built = []

    def build_editor(*arguments, **settings):
        built.append(arguments)
        return tiny

    monkeypatch.setattr(editors, "build_editor", build_editor)
    monkeypatch.chdir(tmp_path)
    arguments = ("eval", "editor", "stickers", "--data", "unit:4", "--editor", model, "--out", "run", "--quiet")
    return arguments, built


def test_generate_and_judge_from_the_command_line(command, capsys):
    """The second time nothing is made, nothing is judged, and no file is another."""
    arguments, built = command
    assert call(*arguments) == 0
    captured = capsys.readouterr()
    assert "4 pictures made, 0 from before" in captured.err
    assert "4 new judgements" in captured.err
    before = {p.as_posix(): p.read_bytes() for p in sorted(Path("run").rglob("*")) if p.is_file()}
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["generation"]["seed"] == 0
    assert call(*arguments) == 0
    captured = capsys.readouterr()
    assert "0 pictures made, 4 from before" in captured.err
    assert "0 new judgements, 4 from before" in captured.err
    assert len(built) == 1
    assert {p.as_posix(): p.read_bytes() for p in sorted(Path("run").rglob("*")) if p.is_file()} == before


def test_pictures_of_one_draw_are_none_of_another(command, capsys):
    """Both lie at <kind>/<index>.png. More tasks of the same draw go on; those of another are refused, and named."""
    arguments, _ = command
    assert call(*arguments) == 0
    more = [word if word != "unit:4" else "unit:5" for word in arguments]
    assert call(*more) == 0
    assert "1 pictures made, 4 from before" in capsys.readouterr().err
    other = [word if word != "unit:4" else "other:4" for word in arguments]
    assert call(*other) == 2
    assert "made with another tasks" in capsys.readouterr().err
    finished = ("eval", "editor", "stickers", "--images", "run/edits", "--out", "again", "--quiet", "--data")
    assert call(*finished, "unit:4") == 0
    assert call(*finished, "other:4") == 2
    assert "are of draw unit, and not of draw other" in capsys.readouterr().err


def test_weights_that_ship_are_known_by_what_they_are():
    """Not by their names alone: a version may ship others."""
    before = EditorSettings("embedded").to_dict()
    after = EditorSettings("embedded", "sticker-kontext-small-rl-gcpo-small").to_dict()
    assert all(before["weights"])
    assert len(after["weights"]) == 2
    assert all(after["weights"])
    assert len(set(after["weights"])) == 2


def test_of_two_processes_each_makes_its_share_and_the_first_one_judges(command, monkeypatch, capsys):
    """What `accelerate launch` would start, one after the other: 2 of 4 pictures each, and one evaluation."""
    from editr1.cli import eval_editor

    arguments, _ = command
    waited = []

    class Processes:
        num_processes, device = 2, "cpu"

        def __init__(self, index):
            self.process_index = index

        def wait_for_everyone(self):
            waited.append(self.process_index)

    monkeypatch.setattr(eval_editor, "_processes", lambda: Processes(1))
    assert call(*arguments) == 0
    assert "2 pictures made, 0 from before" in capsys.readouterr().err
    assert not Path("run/result.json").exists()
    monkeypatch.setattr(eval_editor, "_processes", lambda: Processes(0))
    assert call(*arguments) == 0
    assert "4 new judgements" in capsys.readouterr().err
    assert waited == [1, 0]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("stickers",), "no pictures to judge: give --images, or --editor"),
        (("stickers", "--images", ".", "--steps", "3"), "--steps is for --editor"),
        (("stickers", "--images", ".", "--model", "x", "--passes", "4"), "--model, --passes: the oracle, which judges"),
        (("gedit", "--images", ".", "--scorer", "oracle"), "knows the truth of stickers only, not of gedit"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, monkeypatch, capsys, arguments, why):
    monkeypatch.chdir(tmp_path)
    assert call("eval", "editor", *arguments, "--data", "unit:2", "--out", "run") == 2
    assert why in capsys.readouterr().err
    assert not Path("run").exists()

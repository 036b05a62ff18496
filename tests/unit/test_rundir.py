"""The run directory: written once, resumed without doubles, never half."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from editr1.errors import ConfigError, DataError
from editr1.rundir import RunDir, describe_environment


def make(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run", {"lr": 1e-3}, seeds={"data": 7})


def steps(run: RunDir) -> list[int]:
    return [row["step"] for row in run.metrics()]


def test_create_writes_config_and_environment(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert RunDir.open(run.path).config == {"lr": 1e-3}
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["seeds"] == {"data": 7}
    assert environment["packages"]["pydantic"]
    assert run.samples.is_dir()
    assert run.checkpoints.is_dir()


def test_the_revision_is_that_of_this_checkout() -> None:
    here = Path(__file__).parent
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    revision = describe_environment()["revision"]
    if done.returncode != 0:
        assert revision is None
    else:
        assert revision is None or revision["commit"] == done.stdout.strip()


def test_a_run_is_not_overwritten_and_a_resumed_one_keeps_its_first_config(tmp_path: Path) -> None:
    run = make(tmp_path)
    with pytest.raises(ConfigError, match="holds a run already"):
        make(tmp_path)
    RunDir.create(run.path, {"lr": 1e-3}, resume=True)
    assert not (run.path / "config.2.json").exists()
    RunDir.create(run.path, {"lr": 5e-4}, resume=True)
    assert run.config == {"lr": 1e-3}
    assert json.loads((run.path / "config.2.json").read_text()) == {"lr": 5e-4}


def test_a_folder_without_config_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no run directory"):
        RunDir.open(tmp_path)


def test_metrics_are_on_disk_as_they_are_written(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert steps(run) == []
    with run.log() as log:
        log.write(1, loss=0.5, grad=float("nan"), parts=[float("inf"), 2.0])
        (row,) = run.metrics()
    assert row["loss"] == 0.5
    assert row["grad"] is None
    assert row["parts"] == [None, 2.0]
    assert row["time"] > 0


def test_resuming_drops_the_steps_that_will_be_done_again(tmp_path: Path) -> None:
    run = make(tmp_path)
    with run.log() as log:
        for step in range(1, 8):
            log.write(step, loss=float(step))
    with run.metrics_file.open("a") as file:
        file.write('{"step": 8, "lo')  # killed while it wrote
    assert steps(run) == [1, 2, 3, 4, 5, 6, 7]
    with run.log(after=4) as log:
        log.write(5, loss=0.0)
    assert steps(run) == [1, 2, 3, 4, 5]
    assert [row["loss"] for row in run.metrics()][-1] == 0.0


def test_continuing_without_a_checkpoint_keeps_all_rows(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step in (1, 2):
        with run.log() as log:
            log.write(step)
    assert steps(run) == [1, 2]


def test_a_broken_row_in_the_middle_is_told(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.metrics_file.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"metrics.jsonl:2 is not JSON"):
        list(run.metrics())


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert run.latest_checkpoint() is None
    run.save_checkpoint(100, lambda folder: (folder / "weights").write_text("100") and None)

    def crash(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.save_checkpoint(200, crash)
    latest = run.latest_checkpoint()
    assert latest == (100, run.checkpoints / "step-000100")
    assert not (run.checkpoints / "step-000200").exists()
    run.save_checkpoint(200, lambda folder: (folder / "weights").write_text("200") and None)
    latest = run.latest_checkpoint()
    assert latest is not None
    assert (latest[0], (latest[1] / "weights").read_text()) == (200, "200")


@pytest.mark.parametrize("name", ["step-000300", "../../etc", ""])
def test_latest_that_names_nothing(tmp_path: Path, name: str) -> None:
    run = make(tmp_path)
    (run.checkpoints / "latest").write_text(name)
    with pytest.raises(DataError, match="which is not there"):
        run.latest_checkpoint()


def test_it_does_without_torch() -> None:
    code = "import sys, editr1.rundir as r; r.describe_environment(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""`editr1 curate` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from editr1.cli.main import run

SMALL = ["--set", "source.count=30", "--set", "select.random=2", "--set", "select.hard=1", "--set", "shard_size=2"]


def curate(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        run(["curate", *words])
    return int(caught.value.code or 0)


def test_a_run_and_its_manifest(repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = str(repository / "recipes/sticker/curate.toml")
    assert curate(recipe, "--out", str(tmp_path), *SMALL) == 0
    assert "choose" in capfd.readouterr().out
    assert (tmp_path / "config.json").is_file()
    assert list((tmp_path / "export" / "data").glob("train-*.parquet"))
    assert curate(recipe, "--out", str(tmp_path), *SMALL, "--json") == 0
    manifest = json.loads(capfd.readouterr().out)
    assert manifest["choose"]["out"] == manifest["rows"]["train"] + manifest["rows"]["validation"] > 0


def test_the_estimate_says_that_it_is_one(repository: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for model in ("sticker", "qwen2.5-vl-7b"):
        recipe = repository / f"recipes/{model}/curate.toml"
        words = [str(recipe), "--estimate", "--out", str(tmp_path)]
        if model != "sticker":  # the data set it names is not here: any contexts do
            words += ["--set", 'source={kind="stickers", count=20}']
        assert curate(*words) == 0
        out = capfd.readouterr().out
        assert "ESTIMATE for 200,000 contexts and 2,000,000 quadruples" in out
        assert "It assumes:" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "trace.smaples=3"], "trace.samples"),
        (["--engine", "spark"], "unknown engine 'spark'"),
        (["--set", "trace.samples=2", "--set", "trace.temperatures=[0]"], "would be the same"),
        (
            ["--set", "select.hard=0", "--set", 'source={kind="table", path="nowhere.parquet"}'],
            "there are no contexts at nowhere.parquet",
        ),
        (["--set", 'trace.judges=[{simulated="lenient"}, {simulated="lenient"}]'], "named twice"),
        (["--set", 'verify.judge={simulated="stern"}'], "no simulated judge 'stern'"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert curate(str(repository / "recipes/sticker/curate.toml"), "--out", str(tmp_path), *SMALL, *words) == 2
    err = capfd.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "work").exists()  # told before anything was done

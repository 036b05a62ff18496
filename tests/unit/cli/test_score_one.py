"""`editr1 score` on one edit, and what all commands have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editr1.types import EditVerdict

ONE = ("score", "--source", "a.png", "--edited", "b.png", "--instruction")


def test_a_verdict_for_people(editr1_run: Callable[..., Any]) -> None:
    result = editr1_run(*ONE, "score 7.5")
    assert result.code == 0
    assert "Is the street [as] before?" in result.out  # brackets are no markup
    assert "because [it] is" in result.out
    assert "7.5 of 10" in result.out
    assert "1 of 2 principles met" in result.out
    assert "a notice" in result.err


def test_a_verdict_of_several_passes(editr1_run: Callable[..., Any]) -> None:
    result = editr1_run(*ONE, "score 7.5", "--passes", "4")
    assert "3 passes, spread 0.25" in result.out
    assert "1 without a verdict" in result.out
    assert "75%" in result.out


def test_a_verdict_for_programs_is_all_of_stdout(editr1_run: Callable[..., Any]) -> None:
    result = editr1_run(*ONE, "score 7.5", "--json", "--quiet")
    verdict = EditVerdict.from_dict(json.loads(result.out))
    assert (verdict.score, result.err) == (7.5, "")


def test_a_failed_verdict_is_an_error_and_still_printed_as_json(editr1_run: Callable[..., Any]) -> None:
    result = editr1_run(*ONE, "refused to answer", "--json", "--quiet")
    assert result.code == 2
    data = json.loads(result.out)
    assert (data["status"], data["score"], data["checks"]) == ("refused", None, None)
    assert result.err == "error: no verdict (refused): it was told to: to answer\n"


def test_principles_from_a_file(editr1_run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps([{"question": "Is it round?", "category": "Follow"}]))
    assert "Is it round?" in editr1_run(*ONE, "score 1", "--principles", "p.json").out


def test_one_edit_is_added_to_a_file_of_verdicts(editr1_run: Callable[..., Any], tmp_path: Path) -> None:
    for instruction in ("score 1", "score 2", "score 1"):
        assert editr1_run(*ONE, instruction, "--out", "v.jsonl").code == 0
    lines = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [(line["score"], line["source"]) for line in lines] == [(1.0, "a.png"), (2.0, "a.png")]


def test_settings_reach_judge_and_verifier(editr1_run: Callable[..., Any], built: list[Any], tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("max_tries = 5\n[judge]\nmodel = 'from-file'\ntimeout = 7.0\n")
    editr1_run(
        *ONE, "score 1", "--config", "r.toml", "--set", "judge.timeout=9", "--base-url", "http://x/v1", "--model", "m",
        "--temperature", "0.7", "--max-tokens", "99", "--seed", "3", "--passes", "2", "--cache", "c",
        "--concurrency", "4", "--api-key-env", "KEY", "--template", "compact",
    )  # fmt: skip
    (verifier,) = built
    assert verifier.judge.arguments == {
        "kind": "openai", "model": "m", "base_url": "http://x/v1", "api_key_env": "KEY", "concurrency": 4,
        "timeout": 9.0, "cache_dir": "c", "device": None, "dtype": None,
    }  # fmt: skip
    sampling = verifier.settings.pop("sampling")
    del verifier.settings["on_notice"]
    assert (sampling.max_tokens, sampling.temperature, sampling.seed) == (99, 0.7, 3)
    assert verifier.settings == {
        "template": "compact", "passes": 2, "max_tries": 5, "seed": 3, "notice": None,
        "notice_unless": None, "passes_temperature": 0.7,
    }  # fmt: skip


def test_what_is_left_open_is_the_models_own(editr1_run: Callable[..., Any], built: list[Any]) -> None:
    editr1_run(*ONE, "score 1", "--temperature", "0.2")
    settings = built[0].settings
    assert settings["template"].name == "compact"
    assert (settings["sampling"].max_tokens, settings["sampling"].temperature) == (300, 0.2)
    assert (settings["passes_temperature"], settings["notice"]) == (0.5, "a notice")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ((), "embedded"),
        (("--model", "embedded"), "embedded"),
        (("--model", "."), "transformers"),
        (("--model", ".", "--judge", "vllm"), "vllm"),
        (("--base-url", "http://x/v1"), "openai"),
    ],
)
def test_the_kind_of_judge_follows_from_what_is_given(
    editr1_run: Callable[..., Any], built: list[Any], arguments: tuple[str, ...], kind: str
) -> None:
    editr1_run(*ONE, "score 1", *arguments)
    assert built[0].judge.arguments["kind"] == kind


def bomb(path: Path) -> None:
    """A PNG header that claims 100 000 x 100 000 pixels."""
    Image.new("RGB", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("score",), "--source, --edited, --instruction missing"),
        (("score", "--source", "a.png", "--edited", "b.png"), "--instruction missing"),
        (("score", "e.jsonl", "--source", "a.png"), "exclude each other"),
        (("score", "e.jsonl", "--input", "f.jsonl"), "two files of edits"),
        (("score", "e.jsonl", "--principles", "p.json"), "--principles is for one edit"),
        (("score", "nowhere.jsonl"), "there is no file of edits at nowhere.jsonl"),
        ((*ONE, "  "), "the instruction must say what the edit was meant to do"),
        ((*ONE, "score 1", "--source", "nowhere.png"), "nowhere.png"),
        ((*ONE, "score 1", "--edited", "text.png"), "text.png"),
        ((*ONE, "score 1", "--edited", "bomb.png"), "bomb.png"),
        ((*ONE, "score 1", "--principles", "nowhere.json"), "cannot read the principles"),
        ((*ONE, "score 1", "--judge", "oracle"), "'judge.kind' should be 'embedded', 'transformers'"),
        ((*ONE, "score 1", "--passes", "0"), "command line: 'passes' should be greater than 0, got 0"),
        ((*ONE, "score 1", "--set", "judge.modle=x"), "did you mean 'judge.model'?"),
        ((*ONE, "score 1", "--config", "nowhere.toml"), "cannot read the recipe nowhere.toml"),
        ((*ONE, "dead"), "cannot reach the server"),
        (("decompose", "--source", "nowhere.png", "--instruction", "x"), "nowhere.png"),
        (("decompose", "--source", "a.png", "--instruction", " "), "the instruction is empty"),
        (("report", "nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    editr1_run: Callable[..., Any], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    bomb(tmp_path / "bomb.png")
    result = editr1_run(*arguments, *(("--quiet",) if arguments[0] != "report" else ()))
    assert result.code == 2
    assert result.out == ""
    assert words in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1


def test_a_picture_that_cannot_be_read_costs_no_model(editr1_run: Callable[..., Any], built: list[Any]) -> None:
    editr1_run(*ONE, "score 1", "--edited", "nowhere.png")
    assert built == []


def test_an_unexpected_error_is_one_line_too(editr1_run: Callable[..., Any]) -> None:
    result = editr1_run(*ONE, "bug", "--quiet")
    assert result.code == 3
    assert result.err == (
        "error: unexpected RuntimeError: something broke  (`editr1 --debug ...` shows where it came from)\n"
    )


def test_debug_shows_where_an_error_came_from(editr1_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITR1_DEBUG", "")  # so that it is reset after the test
    with pytest.raises(RuntimeError, match="something broke"):
        editr1_run("--debug", *ONE, "bug")


def test_decompose(editr1_run: Callable[..., Any]) -> None:
    arguments = ("decompose", "--source", "a.png", "--instruction", "x")
    assert "Is the street [as] before?" in editr1_run(*arguments).out
    data = json.loads(editr1_run(*arguments, "--json").out)
    assert data[0] == {"question": "Is the car red?", "category": "Instruction Following"}


def test_version_and_help(editr1_run: Callable[..., Any]) -> None:
    from editr1 import __version__

    assert editr1_run("--version").out == f"editr1 {__version__}\n"
    text = editr1_run("--help").out
    assert all(command in text for command in ("score", "decompose", "report", "stickers", "demo"))
    assert editr1_run("scor").code == 2


def test_a_place_that_cannot_be_written_is_the_users_to_mend(
    editr1_run: Callable[..., Any], edits: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = editr1_run("score", edits("score 1"), "--out", tmp_path / "file" / "v.jsonl")
    assert result.code == 2
    assert f"error: {tmp_path / 'file'}" in result.err
    assert "name another place" in result.err

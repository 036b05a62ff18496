"""Records on disk: what is written comes back, the same bytes each time, and `datasets` reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from editr1.curation import shards
from editr1.curation.records import Chosen, Verified
from editr1.errors import DataError
from editr1.types import Check, EditKind


@pytest.fixture
def chosen(make) -> list[Chosen]:
    records = []
    for number in (0, 1):
        traced = make.traced(make.trace("110", 7.5, reasoning='é "quoted"\n'), make.failed_trace(), number=number)
        gold = tuple(Check(p, True, "seen") for p in make.principles)
        records.append(Chosen(f"x{number}", Verified(f"v{number}", traced, gold), 0, 2 / 3))
    return records


def write_all(folder: Path, chosen: list[Chosen]) -> dict[str, Path]:
    chains = [
        (c.verified.traced.edit.decomposed.context, c.verified.traced.edit.decomposed, c.verified.traced.edit,
         c.verified.traced, c.verified, c)
        for c in chosen
    ]  # fmt: skip
    files = {}
    for place, stage in enumerate(shards.COLUMNS):
        rows = [shards.to_row(chain[place]) for chain in chains]
        files[stage] = shards.write_table(folder / f"{stage}.parquet", shards.COLUMNS[stage], rows, {"stage": stage})
    return files


def with_trace_ids(record: Chosen) -> Chosen:
    """Traces name the edit that they are of."""
    traced = record.verified.traced
    traces = tuple(replace(t, quadruple_id=traced.edit.id) for t in traced.traces)
    return replace(record, verified=replace(record.verified, traced=replace(traced, traces=traces)))


def test_records_come_back_whole(tmp_path: Path, chosen) -> None:
    files = write_all(tmp_path, chosen)
    assert shards.load_records("choose", files) == [with_trace_ids(c) for c in chosen]
    assert shards.read_meta(files["trace"]) == {"stage": "trace"}
    assert shards.read_ids(files["verify"]) == ["v0", "v1"]


def test_a_kind_comes_back_as_such(tmp_path: Path, make) -> None:
    context = make.context(0, kind=EditKind.STYLE, subset="hard", reason="why")
    path = shards.write_table(tmp_path / "s.parquet", shards.COLUMNS["select"], [shards.to_row(context)], {})
    assert shards.load_records("select", {"select": path}) == [context]


def test_the_same_records_are_the_same_bytes(tmp_path: Path, chosen) -> None:
    one, two = write_all(tmp_path / "1", chosen), write_all(tmp_path / "2", chosen)
    assert all(one[stage].read_bytes() == two[stage].read_bytes() for stage in one)


def test_files_that_do_not_belong_together_are_told(tmp_path: Path, chosen) -> None:
    files = write_all(tmp_path / "1", chosen) | {"decompose": write_all(tmp_path / "2", chosen[:1])["decompose"]}
    with pytest.raises(DataError, match=r"edit\.parquet does not belong"):
        shards.load_records("edit", files)


def test_a_file_of_others_is_refused(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="not written by editr1"):
        shards.read_meta(tmp_path / "a.parquet")


@pytest.mark.parametrize("stage", ["select", "decompose", "edit", "trace", "verify"])
def test_datasets_reads_every_stage(tmp_path: Path, chosen, stage: str) -> None:
    datasets = pytest.importorskip("datasets")
    path = write_all(tmp_path, chosen)[stage]
    rows = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert rows.num_rows == 2
    if stage == "select":
        assert rows[1]["source"].getpixel((0, 0)) == (1, 0x40, 0x80)
    if stage == "decompose":
        assert rows[0]["principles"][1]["category"] == "Feature Preservation"

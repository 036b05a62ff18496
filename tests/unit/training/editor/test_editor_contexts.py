"""Contexts of editor RL: by position, in an order that is a function of the seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from editor_helpers import write_tasks
from PIL import Image

from editr1.errors import DataError
from editr1.training.editor.contexts import chosen, derive_seed, open_contexts, usable
from editr1.training.editor.recipe import ContextsRecipe
from editr1.types import EditKind


def test_every_pass_has_every_context_once() -> None:
    """3 an iteration out of 7: the first 7 places are one pass, the next 7 another in another order."""
    places = [place for iteration in range(14) for place in chosen(iteration, 3, 7, seed=5)]
    passes = [places[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1
    assert chosen(4, 3, 7, seed=5) == places[12:15]
    assert [chosen(n, 3, 7, seed=6) for n in range(5)] != [chosen(n, 3, 7, seed=5) for n in range(5)]
    assert Counter(chosen(0, 5, 2, seed=0)).total() == 5, "more than there are"


def test_seeds_differ_in_every_part() -> None:
    seeds = {derive_seed(*parts) for parts in [(0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 23), (0, 12, 3), ("a",)]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**56 for seed in seeds)
    assert derive_seed(0, 1, 2, 3) == derive_seed(0, 1, 2, 3)


def test_stickers_are_drawn_by_position() -> None:
    drawn = open_contexts(ContextsRecipe(stickers="rl-test", first=10, count=3))
    assert len(drawn) == 3
    assert drawn[1].id == "rl-test/11"
    assert drawn[1].principles
    kinds = open_contexts(ContextsRecipe(stickers="rl-test", count=4, kinds=(EditKind.ADD, EditKind.REMOVE)))
    assert [kinds[n].kind for n in range(4)] == [EditKind.ADD, EditKind.REMOVE] * 2


def test_tasks_keep_what_is_known_of_them(tmp_path: Path) -> None:
    path = write_tasks(tmp_path, 5)
    found = open_contexts(ContextsRecipe(path=str(path), format="tasks", first=1, count=3))
    assert [found[n].id for n in range(len(found))] == ["t1", "t2", "t3"]
    assert found[0].kind is EditKind.TONE
    assert isinstance(found[0].source, Image.Image)
    with pytest.raises(DataError, match="3 contexts from number 4 on are asked for, and .* has 1"):
        open_contexts(ContextsRecipe(path=str(path), format="tasks", first=4, count=3))
    with pytest.raises(DataError, match="no contexts at .* from number 9"):
        open_contexts(ContextsRecipe(path=str(path), format="tasks", first=9))


def test_rows_of_a_table(tmp_path: Path) -> None:
    write_tasks(tmp_path, 3)
    lines = [json.dumps({"image": f"{n}.png", "prompt": f"do {n}"}) for n in range(3)]
    (tmp_path / "table.jsonl").write_text("\n".join(lines))
    found = open_contexts(ContextsRecipe(path=str(tmp_path / "table.jsonl"), first=1))
    assert [(found[n].id, found[n].instruction) for n in range(len(found))] == [("1-1", "do 1"), ("2-2", "do 2")]


def test_a_bad_row_gives_way_to_the_next(tmp_path: Path) -> None:
    path = write_tasks(tmp_path, 4)
    (tmp_path / "1.png").write_bytes(b"no picture")
    (tmp_path / "3.png").unlink()
    found = open_contexts(ContextsRecipe(path=str(path), format="tasks"))
    assert [usable(found, n).id for n in range(4)] == ["t0", "t2", "t2", "t0"]
    for file in tmp_path.glob("*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match="4 contexts from number 0 on cannot be used; the last"):
        usable(found, 0)

"""Where rows are found, which chats count, and the order in which they come."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editr1.errors import ConfigError, DataError
from editr1.judges.testing import tiny_processor
from editr1.training.sft.data import WINDOW, Collator, TrainingOrder, find_files, find_template, index_chats, open_rows
from editr1.training.sft.encode import IGNORED, Encoder
from editr1.verifier.modes import mode_template
from editr1.verifier.template import load_template


@pytest.fixture
def encoder() -> Encoder:
    processor = tiny_processor()
    return Encoder(processor, {processor.tokenizer.eos_token_id})


def index(rows, modes, encoder, **options):
    return index_chats(rows, modes, encoder, first=nullcontext(), **options)


def test_files_are_found_from_the_run_the_export_the_folder_and_the_file(sft_export):
    data = sft_export / "data"
    run = sft_export.parent  # it holds export/data
    for entry in (run, sft_export, data):
        train, held_out = find_files([str(entry)])
        assert [f.name for f in train] == ["train-00000.parquet"]
        assert [f.name for f in held_out] == ["validation-00000.parquet"]
    assert find_files([data / "train-00000.parquet"]) == ([data / "train-00000.parquet"], [])


def test_missing_data_is_one_sentence(tmp_path, sft_export):
    with pytest.raises(DataError, match=r"there is no Parquet file at .*nowhere: name an export"):
        find_files([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="holds held-out rows only"):
        find_files([sft_export / "data/validation-00000.parquet"])


def test_a_file_that_is_no_parquet_and_one_without_chats(tmp_path, sft_cache):
    import pyarrow
    from pyarrow import parquet

    broken = tmp_path / "train-0.parquet"
    broken.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        open_rows([broken])
    parquet.write_table(pyarrow.table({"id": ["a"], "source": ["x.png"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="has no column edited, chats"):
        open_rows([tmp_path / "other.parquet"])


def test_chats_are_picked_by_mode_and_measured(sft_export, encoder):
    rows = open_rows(find_files([sft_export])[0])
    one, two = index(rows, ["think+verify"], encoder), index(rows, ["think", "verify"], encoder)
    assert (len(one), len(two)) == (12, 24)
    assert one.prompt_hashes == {load_template("compact").hash}
    assert two.prompt_hashes == {mode_template(load_template("compact"), "think").hash}
    place = one.dataset(0)[5]
    batch = Collator([rows], encoder)([place])
    assert batch["attention_mask"].sum().item() == one.lengths[5]
    assert (batch["labels"] != IGNORED).sum().item() == one.index[5]["answer"]
    said = encoder.tokenizer.decode(batch["labels"][0][batch["labels"][0] != IGNORED])
    assert said == rows[5]["chats"][2]["answer"] + "<|im_end|>"
    assert one.sorted().lengths == sorted(one.lengths)
    assert one.digest() != two.digest()


def test_what_is_too_long_is_left_out_and_counted(sft_export, encoder):
    rows = open_rows(find_files([sft_export])[0])
    lengths = index(rows, ["think+verify"], encoder).lengths
    middle = sorted(lengths)[6]
    some = index(rows, ["think+verify"], encoder, max_length=middle)
    assert some.lengths == [n for n in lengths if n <= middle]
    assert some.left_out == len(lengths) - len(some) > 0
    with pytest.raises(DataError, match=f"all 12 chats are longer than max_length = 9, the shortest {min(lengths)}"):
        index(rows, ["think+verify"], encoder, max_length=9)


def test_a_mode_that_no_row_has(sft_export, encoder):
    rows = open_rows(find_files([sft_export])[0])
    bare = rows.map(lambda row: {"chats": row["chats"][:1]})
    with pytest.raises(DataError, match="no row has a chat in the mode 'verify'"):
        index(bare, ["think", "verify"], encoder)


def test_a_picture_that_cannot_be_read_names_its_row(sft_row, sft_write, tmp_path, sft_cache, encoder):
    row = sft_row(0)
    row["edited"] = {"bytes": b"no picture", "path": None}
    rows = open_rows(find_files([sft_write(tmp_path / "bad", [row], [])])[0])
    chats = index(rows, ["think"], encoder)
    with pytest.raises(DataError, match="the row 'e0' has a picture that cannot be used"):
        Collator([rows], encoder)([chats.dataset(0)[0]])


@pytest.mark.parametrize("mode", ["think", "verify", "think+verify", "viescore"])
@pytest.mark.parametrize("name", ["compact", "default"])
def test_the_template_is_found_by_its_hash(name, mode):
    base = load_template(name)
    assert find_template([mode_template(base, mode).hash] * 2, mode, None) == base


def test_templates_that_do_not_fit():
    compact = load_template("compact").hash
    with pytest.raises(ConfigError, match="does not ship with editr1"):
        find_template(["0123456789ab"], "think+verify", None)
    with pytest.raises(ConfigError, match="'default' is not the one"):
        find_template([compact], "think+verify", "default")
    with pytest.raises(DataError, match="several templates"):
        find_template([compact, "0123456789ab"], "think+verify", None)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    steps=st.integers(1, 40),
    seed=st.integers(0, 3),
    bucket=st.booleans(),
)
def test_each_chat_comes_once_an_epoch(lengths, batch_size, steps, seed, bucket):
    """Over all steps no chat comes more than once oftener than another, whatever the sizes; and always alike."""
    order = TrainingOrder(lengths, batch_size, steps, seed=seed, bucket=bucket)
    places = list(order)
    assert len(places) == len(order) == batch_size * steps
    counts = Counter(places)
    epochs, rest = divmod(batch_size * steps, len(lengths))
    assert set(places) <= set(range(len(lengths)))
    assert all(counts[i] in (epochs, epochs + 1) for i in range(len(lengths)))
    assert sum(c == epochs + 1 for c in counts.values()) == rest
    assert list(order) == places


def test_a_step_holds_chats_of_similar_length_and_steps_come_in_no_order():
    """Lengths 0..127, each once, in WINDOW = 16 steps of 8: sorted, a step spans 7; as drawn it would span about 99."""
    assert WINDOW == 16
    lengths = list(range(128))
    places = list(TrainingOrder(lengths, 8, 16))
    steps = [places[i : i + 8] for i in range(0, 128, 8)]
    assert all(max(s) - min(s) == 7 for s in steps)
    means = [sum(s) / 8 for s in steps]
    assert means != sorted(means)
    assert means != sorted(means, reverse=True)
    drawn = list(TrainingOrder(lengths, 8, 16, bucket=False))
    assert max(max(drawn[i : i + 8]) - min(drawn[i : i + 8]) for i in range(0, 128, 8)) > 50
    assert list(TrainingOrder(lengths, 8, 16, seed=1)) != places

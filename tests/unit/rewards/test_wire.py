import base64
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from editr1.errors import ConfigError, ImageError
from editr1.rewards.http import HttpReward, _Entry, split
from editr1.rewards.wire import ScoreRequest, WireVerdict, decode_image, encode_image
from editr1.types import Category, Check, EditVerdict, PassStats, Principle, Usage, VerdictStatus

WHOLE = EditVerdict(
    VerdictStatus.OK,
    (Check(Principle("Is it red?", Category.FOLLOW), True, "it is"),),
    1.0,
    7.5,
    "Looked.",
    "judge",
    "hash",
    Usage(3, 2, 1),
    0.25,
    "a",
    passes=PassStats((7.0, 8.0), 0.5, (1.0,)),
    preprocessing=("edited: resized",),
)


@pytest.mark.parametrize("verdict", [WHOLE, EditVerdict(VerdictStatus.TIMEOUT, id="b", error="late")])
def test_verdicts_go_over_the_wire_unchanged(verdict):
    assert WireVerdict.model_validate(json.loads(json.dumps(verdict.to_dict()))).to_verdict() == verdict


@pytest.mark.parametrize(
    "change",
    [{"score": 11}, {"score": "7"}, {"score": True}, {"score": float("nan")}, {"score": None}, {"checks": None},
     {"status": "fine"}, {"status": "error"}, {"checks": [{"question": "Is it?"}]}],
)  # fmt: skip
def test_what_is_no_verdict_is_refused(change):
    with pytest.raises((ValidationError, ValueError)):
        WireVerdict.model_validate(WHOLE.to_dict() | change).to_verdict()


def test_pictures_go_over_the_wire_unchanged():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    back = Image.open(io.BytesIO(decode_image(encode_image(picture), "source")))
    assert (back.format, back.mode) == ("PNG", "RGB")
    assert np.array_equal(np.asarray(back), picture)


@pytest.mark.parametrize("text", ["???", "abc", "data:image/png;base64,AAAA"])
def test_text_that_is_no_base64(text):
    with pytest.raises(ImageError, match="edited picture is not base64"):
        decode_image(text, "edited")


@pytest.mark.parametrize(
    "request_",
    [
        {"items": []},
        {"items": [{"source": "AA==", "edited": "AA=="}]},
        {"items": [{"source": "AA==", "edited": "AA==", "instruction": "x", "principle": []}]},
        {"items": [{"source": "AA==", "edited": "AA==", "instruction": "x"}], "model": "y"},
        {"items": [{"source": "", "edited": "AA==", "instruction": "x"}]},
    ],
)
def test_misspelt_and_missing_fields_are_errors(request_):
    with pytest.raises(ValidationError):
        ScoreRequest.model_validate(request_)


def entry(index, size):
    return _Entry(index, str(index), {}, size)


def test_requests_are_split_by_items_and_bytes():
    """At most 3 items and 10 bytes: [4, 4] is full by bytes, 30 goes alone, [1, 1, 1] is full by items."""
    sizes = [4, 4, 4, 30, 1, 1, 1, 1]
    parcels = list(split([entry(i, s) for i, s in enumerate(sizes)], 3, 10))
    assert [[e.size for e in parcel] for parcel in parcels] == [[4, 4], [4], [30], [1, 1, 1], [1]]


@given(st.lists(st.integers(1, 50)), st.integers(1, 8), st.integers(1, 100))
def test_splitting_loses_nothing(sizes, items, limit):
    parcels = list(split([entry(i, s) for i, s in enumerate(sizes)], items, limit))
    assert [e.index for parcel in parcels for e in parcel] == list(range(len(sizes)))
    for parcel in parcels:
        assert 1 <= len(parcel) <= items
        assert len(parcel) == 1 or sum(e.size for e in parcel) <= limit


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/score"])
def test_addresses(url):
    assert HttpReward(url).base_url == "http://h:1/v1"


@pytest.mark.parametrize(
    "options",
    [{"url": "h:1"}, {"concurrency": 0}, {"items_per_request": 0}, {"items_per_request": 257}, {"timeout": 0},
     {"token_env": "EDITR1_NO_SUCH_TOKEN"}, {"scale": "x"}],
)  # fmt: skip
def test_bad_options(options):
    with pytest.raises(ConfigError):
        HttpReward(**{"url": "http://h:1"} | options)


def test_base64_in_requests_is_plain():
    assert base64.b64decode(encode_image(Image.new("RGB", (1, 1)))).startswith(b"\x89PNG")

"""An answer of which only the final score is read: stated once, or it is none."""

from __future__ import annotations

import pytest

from editr1.errors import VerdictParseError
from editr1.judges.base import ChatReply, ReplyStatus
from editr1.verifier.score_text import read_final_score


def test_the_score_between_tags_is_read() -> None:
    assert read_final_score(ChatReply(ReplyStatus.OK, "fine\n<score>6.5</score>")) == 6.5


@pytest.mark.parametrize(
    ("text", "status", "fault"),
    [
        ("good <score>7</score>", ReplyStatus.TRUNCATED, "truncated"),
        (" ", ReplyStatus.OK, "empty"),
        ("good", ReplyStatus.OK, "no score"),
        ("five", ReplyStatus.OK, "no score"),
        ("<score>7</score> or <score>8</score>", ReplyStatus.OK, "conflicting scores"),
        ("<score>11</score>", ReplyStatus.OK, "score out of range"),
    ],
)
def test_what_is_no_score_is_never_made_one(text: str, status: ReplyStatus, fault: str) -> None:
    with pytest.raises(VerdictParseError) as caught:
        read_final_score(ChatReply(status, text))
    assert caught.value.fault == fault

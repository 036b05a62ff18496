"""What goes over the wire between a reward client and the scoring service: `POST /v1/score`, JSON both ways.

Client and service both stand on these types, and so does whoever writes either anew. The service refuses fields that it
does not know, so that a misspelt option is an error; the client ignores them, so that a service may say more.
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from editr1.errors import DataError, ImageError
from editr1.images import load_image
from editr1.types import Category, EditVerdict, ImageLike, Principle, VerdictStatus

MAX_ITEMS = 256
"""Most edits in one request, whatever the service's own limits are."""

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")
"""Picture formats that the service reads. Pillow knows many more, some of which run interpreters."""

Base64Image = Annotated[str, Field(min_length=1, description="A PNG, JPEG or WebP file in base64, without a prefix.")]


class WirePrinciple(BaseModel):
    """A yes/no question that a right edit answers with yes."""

    model_config = ConfigDict(extra="forbid")

    question: Annotated[str, Field(min_length=1, max_length=4000)]
    category: Annotated[str, Field(description="Follow, Keep or Quality, or the paper's long names.")]

    def to_principle(self) -> Principle:
        """As the verifier takes it.

        Raises:
            DataError: if the question is blank or the category unknown.
        """
        try:
            return Principle.from_dict({"question": self.question, "category": self.category})
        except ValueError as exc:
            raise DataError(str(exc)) from None


class ScoreItem(BaseModel):
    """One edit to be judged."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str | None, Field(default=None, max_length=500, description="Comes back in the verdict.")]
    source: Base64Image
    edited: Base64Image
    instruction: Annotated[str, Field(max_length=20_000)]
    principles: Annotated[
        list[WirePrinciple] | None,
        Field(default=None, max_length=100, description="Found by the judge, once for each context, if left out."),
    ]


class ScoreRequest(BaseModel):
    """`POST /v1/score`."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[list[ScoreItem], Field(min_length=1, max_length=MAX_ITEMS)]


class WireCheck(BaseModel):
    """A principle, whether it is met, and why."""

    question: str
    category: Category
    met: bool
    reason: str = ""


class WireVerdict(BaseModel):
    """A verdict, or with a status other than `ok` the record of a failure, which has no score."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None
    status: VerdictStatus
    score: Annotated[float | None, Field(default=None, ge=0, le=10, allow_inf_nan=False, strict=True)]
    average_score: Annotated[float | None, Field(default=None, ge=0, le=1, allow_inf_nan=False, strict=True)]
    checks: list[WireCheck] | None = None
    reasoning: str = ""
    judge: str = ""
    prompt_hash: str = ""
    usage: dict[str, Any] | None = None
    seconds: float = 0.0
    error: str | None = None

    def to_verdict(self) -> EditVerdict:
        """As everybody else takes it.

        Raises:
            ValueError, TypeError: if it is no whole verdict, such as one that is ok and has no score.
        """
        return EditVerdict.from_dict(self.model_dump(mode="json"))


class ScoreResponse(BaseModel):
    """The verdicts, as many as there were items, in their order."""

    verdicts: list[WireVerdict]


class ErrorDetail(BaseModel):
    """One sentence for people, and a word for programs."""

    message: str
    type: str


class ErrorResponse(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


def encode_image(ref: ImageLike) -> str:
    """A picture as the wire carries it: upright RGB, PNG, base64.

    Raises:
        ImageError: if the picture cannot be used.
    """
    buffer = io.BytesIO()
    load_image(ref).save(buffer, format="PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode_image(text: str, label: str) -> bytes:
    """The file in a base64 text; what kind of file it is has not been looked at.

    Raises:
        ImageError: if the text is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        hint = ": leave out the prefix 'data:...;base64,'" if text.startswith("data:") else ""
        raise ImageError(f"the {label} picture is not base64{hint}") from None

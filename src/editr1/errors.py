"""One error type per boundary. Each message says what was wrong, with the value, and what to do.

All subclass `Editr1Error` and the standard type that a caller would expect to catch. The command line prints any
`Editr1Error` as one sentence and exits with code 2.
"""

from __future__ import annotations


class Editr1Error(Exception):
    """Base of all errors that editr1 raises on purpose."""


class ImageError(Editr1Error, ValueError):
    """A picture that is missing, unreadable, or larger than is safe to decode."""


class ConfigError(Editr1Error, ValueError):
    """A recipe, override or option that cannot be understood."""


class DataError(Editr1Error, ValueError):
    """A data set, record or file of records that cannot be read."""


class ModelError(Editr1Error, RuntimeError):
    """A model that cannot be found, loaded or used for what was asked."""


class JudgeError(Editr1Error, RuntimeError):
    """A judge that cannot be set up or reached at all. A single failed call is a `ChatReply` with a status."""


class VerdictParseError(Editr1Error, ValueError):
    """An answer that holds no whole verdict; `fault` names the reason in a word or two.

    Faults: "empty", "no checks", "bad json", "missing question", "unknown question", "duplicate question",
    "bad check value", "no score", "score out of range", "conflicting scores", "truncated".
    """

    def __init__(self, fault: str, detail: str = "") -> None:
        super().__init__(f"{fault}: {detail}" if detail else fault)
        self.fault = fault


class DecomposeError(Editr1Error, ValueError):
    """An instruction that could not be split into principles."""


class RewardError(Editr1Error, RuntimeError):
    """A reward that cannot be set up, or that fails so often that going on would train on what is left over."""


class MissingExtraError(Editr1Error, ImportError):
    """A feature whose optional dependencies are not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra '{extra}': install it with  uv pip install 'editr1[{extra}]'")

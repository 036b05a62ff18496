"""The reasoning reward model: split an instruction into principles, judge an edit by them, read the verdict.

Nothing here imports torch; the names below are looked up when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from editr1.verifier.decompose import Decomposition
    from editr1.verifier.parse import VerdictParseError, parse_principles, parse_verdict
    from editr1.verifier.score import Verifier
    from editr1.verifier.template import PromptTemplate, load_template

__all__ = [
    "Decomposition",
    "PromptTemplate",
    "VerdictParseError",
    "Verifier",
    "load_template",
    "parse_principles",
    "parse_verdict",
]

_LAZY = {
    "Decomposition": "decompose",
    "PromptTemplate": "template",
    "VerdictParseError": "parse",
    "Verifier": "score",
    "load_template": "template",
    "parse_principles": "parse",
    "parse_verdict": "parse",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'editr1.verifier' has no attribute {name!r}")

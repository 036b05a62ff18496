"""editr1: verifier-based reinforcement learning for instruction-based image editing.

Importing this package loads neither torch nor transformers; the names below are looked up when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from editr1.types import Category, Check, EditKind, EditTask, EditVerdict, Principle, Quadruple, VerdictStatus

if TYPE_CHECKING:
    from editr1.verifier import Verifier

__version__ = "0.1.0"

__all__ = [
    "Category",
    "Check",
    "EditKind",
    "EditTask",
    "EditVerdict",
    "Principle",
    "Quadruple",
    "VerdictStatus",
    "Verifier",
    "__version__",
]

_LAZY = {"Verifier": "editr1.verifier"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'editr1' has no attribute {name!r}")

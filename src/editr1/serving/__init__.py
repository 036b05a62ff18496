"""The scoring service: a verifier behind HTTP. Names are looked up when first used, and need the extra `serve`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from editr1.serving.limits import Limits

if TYPE_CHECKING:
    from editr1.serving.app import create_app
    from editr1.serving.process import run

__all__ = ["Limits", "create_app", "run"]

_LAZY = {"create_app": "app", "run": "process"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from editr1.serving.limits import require_extra

        require_extra()
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'editr1.serving' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

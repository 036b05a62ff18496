"""Stage 2: GCPO of a verifier on human preference pairs. Read `trainer` first; `run` goes from a recipe to a model.

`GCPOTrainer` is looked up when first used: the recipes beside it are read without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from editr1.training.gcpo.trainer import GCPOTrainer

__all__ = ["GCPOTrainer"]


def __getattr__(name: str) -> Any:
    if name == "GCPOTrainer":
        from editr1.training.gcpo.trainer import GCPOTrainer

        return GCPOTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

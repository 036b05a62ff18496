"""Judges: anything that answers a chat with images. Names are looked up when first used.

Importing this package loads neither torch nor the HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from editr1.judges.base import (
    ChatReply,
    ChatRequest,
    Judge,
    Message,
    OnReply,
    Picture,
    ReplyStatus,
    Sampling,
    Text,
)

if TYPE_CHECKING:
    from editr1.judges.build import build_judge
    from editr1.judges.cached import CachedJudge
    from editr1.judges.openai import OpenAIJudge
    from editr1.judges.scripted import ScriptedJudge
    from editr1.judges.transformers import TransformersJudge
    from editr1.judges.vllm import VLLMJudge

__all__ = [
    "CachedJudge",
    "ChatReply",
    "ChatRequest",
    "Judge",
    "Message",
    "OnReply",
    "OpenAIJudge",
    "Picture",
    "ReplyStatus",
    "Sampling",
    "ScriptedJudge",
    "Text",
    "TransformersJudge",
    "VLLMJudge",
    "build_judge",
]

_LAZY = {
    "CachedJudge": "editr1.judges.cached",
    "OpenAIJudge": "editr1.judges.openai",
    "ScriptedJudge": "editr1.judges.scripted",
    "TransformersJudge": "editr1.judges.transformers",
    "VLLMJudge": "editr1.judges.vllm",
    "build_judge": "editr1.judges.build",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'editr1.judges' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

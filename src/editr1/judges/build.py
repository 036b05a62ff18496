"""From settings to a judge."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from editr1.errors import ConfigError
from editr1.judges.base import Judge


@dataclass(frozen=True, slots=True)
class _Settings:
    model: str | None
    base_url: str | None
    api_key_env: str | None
    concurrency: int
    timeout: float
    device: str | None
    dtype: str | None

    def need_model(self, kind: str, example: str) -> str:
        if not self.model:
            raise ConfigError(f"the judge {kind!r} needs a model: name one, e.g. {example}")
        return self.model


def _embedded(settings: _Settings) -> Judge:
    from editr1.judges.transformers import TransformersJudge

    return TransformersJudge(settings.model or "embedded", device=settings.device, dtype=settings.dtype)


def _transformers(settings: _Settings) -> Judge:
    from editr1.judges.transformers import TransformersJudge

    model = settings.need_model("transformers", "Qwen/Qwen2.5-VL-7B-Instruct or a folder")
    return TransformersJudge(model, device=settings.device, dtype=settings.dtype)


def _openai(settings: _Settings) -> Judge:
    from editr1.judges.openai import OpenAIJudge

    model = settings.need_model("openai", "the name that the server lists")
    return OpenAIJudge(
        model,
        base_url=settings.base_url,
        api_key_env=settings.api_key_env or "OPENAI_API_KEY",
        concurrency=settings.concurrency,
        timeout=settings.timeout,
    )


def _vllm(settings: _Settings) -> Judge:
    from editr1.judges.vllm import VLLMJudge

    model = settings.need_model("vllm", "Qwen/Qwen2.5-VL-7B-Instruct or a folder")
    return VLLMJudge(model, dtype=settings.dtype)


KINDS: dict[str, Callable[[_Settings], Judge]] = {
    "embedded": _embedded,
    "transformers": _transformers,
    "openai": _openai,
    "vllm": _vllm,
}


def build_judge(
    kind: str,
    model: str | None = None,
    *,
    base_url: str | None = None,
    api_key_env: str | None = None,
    concurrency: int = 16,
    timeout: float = 120.0,
    cache_dir: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> Judge:
    """Make a judge; settings that its kind has no use for are ignored.

    Args:
        kind: "embedded", "transformers", "openai" or "vllm".
        model: name, folder or hub id; may be left out for "embedded".
        base_url: of an OpenAI-compatible server.
        api_key_env: name of the environment variable that holds the server's key.
        concurrency: most HTTP requests under way at a time.
        timeout: seconds for one HTTP attempt.
        cache_dir: keep answers in this folder.
        device: for local models.
        dtype: for local models.

    Raises:
        ConfigError: for an unknown kind or a missing model.
        JudgeError, ModelError, MissingExtraError: if the judge cannot be set up.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(KINDS)}"
        raise ConfigError(f"unknown judge {kind!r}: {hint}")
    judge = KINDS[kind](_Settings(model, base_url, api_key_env, concurrency, timeout, device, dtype))
    if cache_dir is None:
        return judge
    from editr1.judges.cached import CachedJudge

    return CachedJudge(judge, cache_dir)

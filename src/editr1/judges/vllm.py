"""A judge that runs vLLM in this process."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from editr1.errors import ConfigError, MissingExtraError, ModelError
from editr1.judges.base import ChatReply, ChatRequest, OnReply, Picture, ReplyStatus
from editr1.judges.names import resolve_model, split_adapter
from editr1.types import Usage


class VLLMJudge:
    """Answers with `vllm.LLM.chat`; vLLM batches, schedules and shares prefixes.

    Prefix caching is on: everything before the edited picture is encoded once for all candidates of a context.

    Args:
        model: folder, hub id, or a shipped model's name.
        dtype: e.g. "bfloat16"; default is the checkpoint's own.
        adapter: folder of a LoRA adapter.
        revision: of a hub model.
        chunk: requests handed to vLLM at a time; `on_reply` is called after each chunk.
        max_pictures: most pictures in one chat.
        engine_options: further arguments of `vllm.LLM`, e.g. `tensor_parallel_size=2`, `max_model_len=8192`,
            `gpu_memory_utilization=0.8`.

    Raises:
        MissingExtraError: if vLLM is not installed.
        ModelError: if vLLM cannot load the model.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        dtype: str | None = None,
        adapter: str | None = None,
        revision: str | None = None,
        chunk: int = 256,
        max_pictures: int = 2,
        **engine_options: Any,
    ) -> None:
        if chunk < 1:
            raise ConfigError(f"chunk must be at least 1, got {chunk}")
        try:
            import vllm
        except ImportError as exc:
            raise MissingExtraError("the vLLM judge", "vllm") from exc
        path, adapter = split_adapter(resolve_model(model), adapter)
        options: dict[str, Any] = {
            "model": path,
            "revision": revision,
            "dtype": dtype or "auto",
            "enable_prefix_caching": True,
            "limit_mm_per_prompt": {"image": max_pictures},
            "enable_lora": adapter is not None,
            **engine_options,
        }
        self.name = str(model) if adapter is None else f"{model}+{adapter}"
        self.chunk = chunk
        self._lock = threading.Lock()  # one batch at a time, whoever asks
        try:
            self._llm = vllm.LLM(**options)
        except (OSError, ValueError, RuntimeError) as exc:
            reason = " ".join(str(exc).split())[:300]
            raise ModelError(f"vLLM cannot load {self.name!r} ({reason}): check its name and the options") from exc
        self._make_sampling = vllm.SamplingParams
        self._lora = None
        if adapter is not None:
            from vllm.lora.request import LoRARequest

            self._lora = LoRARequest("adapter", 1, adapter)
        # what `vllm serve` and transformers take from the model's own settings, SamplingParams does not
        self._penalty = float(getattr(self._llm.get_default_sampling_params(), "repetition_penalty", 1.0))
        self.fingerprint = f"vllm:{_identity(path, revision, adapter)}:{_digest(options)}"

    def __repr__(self) -> str:
        return f"VLLMJudge({self.name!r})"

    def chat(self, requests: Sequence[ChatRequest], *, on_reply: OnReply | None = None) -> list[ChatReply]:
        """Answer all requests; one that vLLM turns down (too long, say) fails alone."""
        replies: list[ChatReply] = []
        with self._lock:
            for start in range(0, len(requests), self.chunk):
                for reply in self._answer(requests[start : start + self.chunk]):
                    replies.append(reply)
                    if on_reply is not None:
                        on_reply(len(replies) - 1, reply)
        return replies

    def _answer(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """One call of vLLM. It raises for a whole batch if one request is bad, so the batch is halved to find it."""
        start = time.perf_counter()
        try:
            outputs = self._llm.chat(
                [_conversation(request) for request in requests],
                sampling_params=[self._sampling(request) for request in requests],
                lora_request=self._lora,
                use_tqdm=False,
            )
        except Exception as exc:  # whatever vLLM raises for one request is that request's failure
            if len(requests) > 1:
                half = len(requests) // 2
                return [*self._answer(requests[:half]), *self._answer(requests[half:])]
            error = f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}"
            return [ChatReply(ReplyStatus.ERROR, usage=Usage(calls=1), error=error)]
        seconds = (time.perf_counter() - start) / len(requests)
        return [_read(output, seconds) for output in outputs]

    def _sampling(self, request: ChatRequest) -> Any:
        sampling = request.sampling
        return self._make_sampling(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=None if sampling.seed is None else sampling.seed + request.fresh,
            repetition_penalty=self._penalty,
        )


def _conversation(request: ChatRequest) -> list[dict[str, Any]]:
    return [
        {
            "role": message.role,
            "content": [
                {"type": "image_pil", "image_pil": part.image}
                if isinstance(part, Picture)
                else {"type": "text", "text": part.text}
                for part in message.content
            ],
        }
        for message in request.messages
    ]


def _read(output: Any, seconds: float) -> ChatReply:
    answer = output.outputs[0]
    usage = Usage(len(output.prompt_token_ids or ()), len(answer.token_ids), 1)
    if answer.finish_reason == "length":
        return ChatReply(ReplyStatus.TRUNCATED, answer.text, usage, seconds, "the answer hit max_tokens")
    if answer.finish_reason not in ("stop", None):
        return ChatReply(ReplyStatus.ERROR, answer.text, usage, seconds, f"vLLM ended with {answer.finish_reason!r}")
    if not answer.text.strip():
        return ChatReply(ReplyStatus.EMPTY, answer.text, usage, seconds, "the answer is empty")
    return ChatReply(ReplyStatus.OK, answer.text, usage, seconds)


def _identity(path: str, revision: str | None, adapter: str | None) -> str:
    from editr1.judges.files import folder_digest

    parts = [f"folder:{folder_digest(path)}" if Path(path).is_dir() else f"hub:{path}@{revision}"]
    if adapter is not None:
        parts.append(folder_digest(adapter) if Path(adapter).is_dir() else adapter)
    return ":".join(parts)


def _digest(options: dict[str, Any]) -> str:
    """Of the options that can change an answer; the folder is known by its content."""
    relevant = {key: value for key, value in options.items() if key not in ("model", "gpu_memory_utilization")}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest()[:16]

"""Tiny random models and chats. Weights are wide, so that logits lie apart and a wrong bit of layout shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from editr1.judges.base import ChatRequest, Message, Picture, Sampling, Text
from editr1.judges.fast.prompts import to_chat


@dataclass
class Tiny:
    """A model, its processor, and what the model itself says."""

    model: Any
    processor: Any

    def inputs(self, request: ChatRequest) -> Any:
        """The processor's own output for one chat."""
        images = [p.image for m in request.messages for p in m.content if isinstance(p, Picture)]
        text = self.processor.apply_chat_template(to_chat(request.messages), tokenize=False, add_generation_prompt=True)
        return self.processor(text=[text], images=images or None, return_tensors="pt")

    def logits(self, request: ChatRequest, forced: list[int]) -> torch.Tensor:
        """The model's forward over prompt and forced tokens: `(1 + forced, vocabulary)` behind the prompt."""
        inputs = self.inputs(request)
        length = inputs["input_ids"].shape[1]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([forced], dtype=torch.long)], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if "mm_token_type_ids" in inputs:
            kinds = inputs["mm_token_type_ids"]
            inputs["mm_token_type_ids"] = torch.cat([kinds, kinds.new_zeros(1, len(forced))], dim=1)
        with torch.inference_mode():
            return self.model(**inputs).logits[0, length - 1 :]

    def generate(self, request: ChatRequest, **options: Any) -> list[int]:
        """Greedy tokens of the model's own generate, for one chat alone."""
        inputs = self.inputs(request)
        output = self.model.generate(**inputs, max_new_tokens=request.sampling.max_tokens, do_sample=False, **options)
        return output[0, inputs["input_ids"].shape[1] :].tolist()


def picture(seed: int, width: int = 96, height: int = 96) -> Image.Image:
    """Noise."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def chat(*parts: str | Image.Image, **sampling: Any) -> ChatRequest:
    """A request with a system message and one user message of texts and pictures."""
    content = tuple(Text(part) if isinstance(part, str) else Picture(part) for part in parts)
    messages = (Message("system", (Text("Judge the edit with care."),)), Message("user", content))
    return ChatRequest(messages, Sampling(**sampling))


def context(seed: int, count: int, **sampling: Any) -> list[ChatRequest]:
    """Candidates of one context: everything but the last picture is the same."""
    source = picture(1000 + seed)
    return [
        chat("Source: ", source, f"Task {seed}: add a star. Edited: ", picture(seed * 100 + i), **sampling)
        for i in range(count)
    ]

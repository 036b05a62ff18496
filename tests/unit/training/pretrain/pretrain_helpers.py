"""Tiny editors in training, whose weights all matter."""

from __future__ import annotations

from functools import cache

import torch

from editr1.editors import sticker_pipeline, sticker_qwen
from editr1.stickers.tasks import sample_task
from editr1.training.pretrain.models import Trainee, make_trainee

KONTEXT = sticker_pipeline.Size(64, 1, 1, 64, 1, 64, 1, (8, 8, 8, 16), 4, 700)
QWEN = sticker_qwen.Size(64, 1, 64, 1, 64, 1, 4, (1, 1, 1, 2), 4, 900)


@cache
def tiny_trainee(name: str) -> Trainee:
    """An editor of a few ten thousand weights, made once; its transformer is no longer silent, as a fresh one is."""
    sizes = (sticker_pipeline.SIZES, sticker_qwen.SIZES)
    before = [dict(table) for table in sizes]  # type: ignore[call-overload]
    try:
        sticker_pipeline.SIZES["small"], sticker_qwen.SIZES["small"] = KONTEXT, QWEN
        trainee = make_trainee(name, "small", [sample_task("tokenizer", i).instruction for i in range(300)], 0, "cpu")
    finally:
        for table, old in zip(sizes, before, strict=True):
            table.update(old)  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainee.pipeline.transformer.parameters():
            if parameter.ndim == 2:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return trainee

"""Load an image-text-to-text model and its processor, with an identity that changes when its weights do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from editr1.devices import find_device
from editr1.errors import ConfigError, ModelError
from editr1.judges.files import folder_digest
from editr1.judges.names import SHIPPED, check_place, split_adapter
from editr1.loading import hushed


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in evaluation mode, its processor, and what identifies the two."""

    model: Any
    processor: Any
    fingerprint: str


def load(
    model: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    adapter: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Loaded:
    """Load from a folder or a hub id; only safetensors are read.

    Args:
        model: folder or hub id; the folder of an adapter stands for the base that it names, with the adapter.
        device: e.g. "cuda:1"; default is the first GPU, else the CPU.
        dtype: e.g. "bfloat16"; default is the checkpoint's own on a GPU and float32 on the CPU.
        adapter: folder or hub id of a LoRA adapter, which is merged into the weights.
        revision: of a hub model.
        trust_remote_code: run code that comes with the model.

    Raises:
        ModelError: if it is not there, or is no image-text-to-text model with a chat template.
        ConfigError: if device or dtype is unknown.
    """
    model, adapter = split_adapter(model, adapter)
    check_place(model, ("config.json",), "model", SHIPPED)
    if adapter is not None:
        check_place(adapter, ("adapter_model.safetensors",), "adapter")
    where = find_device(device)
    kind = _dtype(dtype, where)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        with hushed():
            processor = AutoProcessor.from_pretrained(model, **options)
            weights: Any = AutoModelForImageTextToText.from_pretrained(
                model, dtype=kind, use_safetensors=True, **options
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as exc:
        raise ModelError(_explain(model, exc)) from exc
    commit = getattr(weights.config, "_commit_hash", None)
    identity = [f"folder:{folder_digest(model)}" if Path(model).is_dir() else f"hub:{model}@{commit or revision}"]
    if adapter is not None:
        with hushed():
            weights = merge(weights, adapter)
        identity.append(folder_digest(adapter) if Path(adapter).is_dir() else adapter)
    identity.append(str(weights.dtype).removeprefix("torch."))
    try:
        weights = weights.to(where).eval()
    except (torch.OutOfMemoryError, RuntimeError) as exc:
        raise ModelError(f"the model {model!r} does not fit on {where}: choose another device or dtype") from exc
    require_chat(processor, model)
    return Loaded(weights, processor, "transformers:" + ":".join(identity))


def require_chat(processor: Any, name: str) -> None:
    """Check that a processor can render a chat with pictures.

    Raises:
        ModelError: if it cannot.
    """
    if getattr(processor, "image_processor", None) is None or getattr(processor, "tokenizer", None) is None:
        raise ModelError(f"the model {name!r} does not read pictures: name an image-text-to-text model")
    if not (getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)):
        raise ModelError(f"the model {name!r} has no chat template: name an instruction-tuned model")


def _explain(model: str, exc: Exception) -> str:
    text = " ".join(str(exc).split())
    reason = text if len(text) <= 240 else text[:237] + "..."
    if "Unrecognized configuration class" in text or "does not appear to have a file named preprocessor" in text:
        return f"the model {model!r} is no image-text-to-text model ({reason}): name one that reads pictures"
    if Path(model).is_dir():
        return f"the model in {model} cannot be loaded ({reason}): check that the folder is whole"
    return (
        f"the model {model!r} cannot be loaded from the hub ({reason}): check the name and the network, or download it "
        f"and give its folder"
    )


def _dtype(dtype: str | None, device: torch.device) -> torch.dtype | str:
    if dtype is None:
        return torch.float32 if device.type == "cpu" else "auto"
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"unknown dtype {dtype!r}: use bfloat16, float16 or float32")
    return found


def merge(model: Any, adapter: str) -> Any:
    """The model with a LoRA adapter worked into its weights.

    Raises:
        ModelError: if the adapter does not fit.
    """
    from peft import PeftModel  # takes a second, which models without an adapter need not wait for

    try:
        merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        return merged.requires_grad_(True)  # as it was: peft froze it
    except (OSError, ValueError, KeyError, RuntimeError) as exc:
        text = " ".join(str(exc).split())[:240]
        raise ModelError(f"the adapter {adapter!r} does not fit the model ({text}): check its base model") from exc

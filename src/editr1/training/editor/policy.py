"""The trained weights of an editor, and the frozen ones that they are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from editr1.editors.pipeline import PipelineEditor
from editr1.errors import ConfigError, MissingExtraError
from editr1.training.editor.algorithm import CURRENT, REFERENCE
from editr1.training.editor.contexts import derive_seed
from editr1.training.editor.recipe import EditorLora, EditorRecipe

EMA = "ema"
ADAPTER = "default"
"""The only name under which diffusers saves an adapter's settings."""


class Policy:
    """An editor's transformer with what is trained in it: a LoRA, or everything; float32 either way.

    Frozen weights are copies of the trained ones, swapped in where they are asked: `with policy.using("old"): ...`.
    The reference of a LoRA is the transformer with the LoRA switched off, and needs none.

    Args:
        editor: whose transformer is trained; all of it is frozen yet.
        recipe: what is trained.
        copies: names of the frozen weights that will be asked for.

    Attributes:
        parameters: what is trained, by name. Sharded ones are DTensors.
        copies: by name of the frozen weights, each in the order of `parameters`; this process's shards.

    Raises:
        ConfigError: if no layer has a name that the recipe gives as a target.
        MissingExtraError: if peft is missing.
    """

    def __init__(self, editor: PipelineEditor, recipe: EditorRecipe, copies: Iterable[str]) -> None:
        self.editor = editor
        self.transformer: Any = editor.pipeline.transformer
        self.lora = recipe.lora if recipe.train == "lora" else None
        if self.lora is not None:
            _add_lora(editor, self.lora, recipe.seed)
        else:
            self.transformer.requires_grad_(True)
        for parameter in self.transformer.parameters():
            if parameter.requires_grad:
                # bfloat16 would lose updates of 1e-4
                parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        if recipe.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()
        if recipe.shard:
            _shard(self.transformer, torch.bfloat16 if recipe.precision == "bf16" else None)
        self.parameters = {n: p for n, p in self.transformer.named_parameters() if p.requires_grad}
        wanted = {name for name in copies if name != CURRENT and not (name == REFERENCE and self.lora)}
        self.copies: dict[str, list[Tensor]] = {name: [t.clone() for t in self._trained] for name in sorted(wanted)}

    @property
    def _trained(self) -> list[Tensor]:
        """The trained weights as plain tensors that share their memory."""
        return [local(parameter.detach()) for parameter in self.parameters.values()]

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Put frozen weights in the place of the trained ones, for forwards without gradient.

        Not between a forward and its backward: that would change what the backward goes by.
        """
        if name == CURRENT:
            yield
        elif name == REFERENCE and self.lora is not None:
            self.transformer.disable_adapters()
            try:
                yield
            finally:
                self.transformer.enable_adapters()
        else:
            aside = [tensor.clone() for tensor in self._trained]
            self.load(self.copies[name])
            try:
                yield
            finally:
                self.load(aside)

    def load(self, weights: Sequence[Tensor]) -> None:
        """Overwrite the trained weights, in place."""
        for tensor, new in zip(self._trained, weights, strict=True):
            tensor.copy_(new)

    def follow(self, name: str, decay: float) -> None:
        """Let frozen weights come nearer: decay times themselves and the rest of the trained ones."""
        for kept, tensor in zip(self.copies[name], self._trained, strict=True):
            kept.lerp_(tensor, 1 - decay)

    @property
    def best_for_use(self) -> str:
        """The weights to evaluate and to export: the moving average, if there is one."""
        return EMA if EMA in self.copies else CURRENT


def local(tensor: Tensor) -> Tensor:
    """This process's shard of a DTensor, sharing its memory; any other tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _add_lora(editor: PipelineEditor, lora: EditorLora, seed: int) -> None:
    try:
        from peft import LoraConfig
    except ImportError as exc:
        raise MissingExtraError("training a LoRA", "train") from exc
    transformer: Any = editor.pipeline.transformer
    targets = editor.lora_targets
    if lora.targets is not None:
        linear = [name for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)]
        targets = [name for name in linear if any(f".{name}".endswith(f".{target}") for target in lora.targets)]
    if not targets:
        raise ConfigError(
            f"no linear layer of {editor.name} is named {', '.join(lora.targets or ())}: leave lora.targets out, or "
            f"name some of {', '.join(editor.lora_targets[:3])} ..."
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        init_lora_weights="gaussian",
        target_modules=targets,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "lora"))  # one start for all processes
        transformer.add_adapter(config, adapter_name=ADAPTER)


def _shard(transformer: Any, compute: torch.dtype | None) -> None:
    """FSDP2: every block, then the rest, resharded after each forward, so that weights can be swapped in between."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    # Inputs are left to autocast, as without shards: time steps are not rounded to bfloat16.
    options: dict[str, Any] = {
        "mp_policy": MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32, cast_forward_inputs=False),
        "reshard_after_forward": True,
    }
    if transformer.device.type == "cpu":
        from torch.distributed.device_mesh import init_device_mesh

        options["mesh"] = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    for module in transformer.children():
        if isinstance(module, torch.nn.ModuleList):
            for block in module:
                fully_shard(block, **options)
    fully_shard(transformer, **options)

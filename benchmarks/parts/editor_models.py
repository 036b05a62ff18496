"""What `benchmarks/editor_rl.py` measures on: editors, embedded or with fresh weights, verifiers, and the recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from editr1.editors import PipelineEditor
    from editr1.rewards import Reward
    from editr1.training.editor.recipe import EditorRecipe

TEXTS = 2000
"""Instructions that the tokenizers of fresh weights are learnt from."""


def load_editor(options: argparse.Namespace) -> tuple[PipelineEditor, str]:
    """The editor, and a line that says what it is."""
    import torch

    from editr1.editors import build_editor, wrap
    from editr1.editors.base import EditorOptions
    from editr1.editors.names import MODELS_FOLDER
    from editr1.editors.sticker_pipeline import OPTIONS, SIZES, make_sticker_kontext

    over = EditorOptions(area=options.area, reference_area=options.area)
    name = options.editor
    if name == "embedded" and not (MODELS_FOLDER / "sticker-kontext-small/model_index.json").is_file():
        name, options.random_weights = "small", True
        print("note: no embedded editor in this installation, so fresh weights of its size")
    if not options.random_weights:
        if name == "kontext-12b":
            raise SystemExit("kontext-12b stands for random weights of FLUX.1-Kontext's size: add --random-weights")
        dtype = "bfloat16" if options.precision == "bf16" and options.device != "cpu" else "float32"
        editor = build_editor(name, options=over, dtype=dtype, device=options.device)
        if type(editor.pipeline).__name__ != "FluxKontextPipeline":
            raise SystemExit(
                f"{name} is a {type(editor.pipeline).__name__}: the straightforward side knows Kontext only"
            )
        what = editor.name
    elif name == "kontext-12b":
        if not options.device.startswith("cuda") or not torch.cuda.is_available():
            raise SystemExit("kontext-12b needs a GPU of 80 GB: add --device cuda, or take another --editor")
        editor = wrap(random_kontext(options.device), over.model_copy(update={"guidance_scale": 2.5}))
        what = "random weights of FLUX.1-Kontext's size"
    elif name in SIZES:
        pipeline: Any = make_sticker_kontext(name, texts())
        loosen(pipeline.transformer)
        merged = OPTIONS.model_copy(update=over.model_dump(exclude_none=True))
        editor, what = wrap(pipeline.to(options.device), merged), f"a sticker editor, {name}, with fresh weights"
    else:
        raise SystemExit(f"no random weights for {name}: choose from {', '.join(SIZES)} and kontext-12b")
    editor.autocast = torch.bfloat16 if options.precision == "bf16" else None
    millions = sum(p.numel() for p in editor.pipeline.transformer.parameters()) / 1e6
    return editor, f"{what}, transformer of {millions:.1f} M parameters, {options.precision} on {options.device}"


def texts() -> list[str]:
    """Instructions that tokenizers are learnt from."""
    from editr1.stickers.tasks import sample_task

    return [sample_task("tokenizer", index).instruction for index in range(TEXTS)]


def loosen(transformer: Any) -> None:
    """Weights that are fresh and 0 get small values: no gradient would come through them."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in transformer.parameters():
            if parameter.ndim == 2 and not parameter.any():
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))


def random_kontext(device: str) -> Any:
    """A pipeline of the dimensions of FLUX.1-Kontext-dev with both its text encoders, bfloat16, about 34 GB."""
    import torch

    from editr1.editors.sticker_pipeline import assemble_kontext
    from editr1.editors.tokenizers import learn_clip_tokenizer, learn_t5_tokenizer

    some = texts()
    clip, t5 = learn_clip_tokenizer(some, 4096, 77), learn_t5_tokenizer(some, 4096, 512)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)  # float32 on its way there would not fit
    try:
        with torch.device(device):
            return assemble_kontext(
                clip,
                t5,
                transformer={
                    "in_channels": 64,
                    "num_layers": 19,
                    "num_single_layers": 38,
                    "num_attention_heads": 24,
                    "attention_head_dim": 128,
                    "axes_dims_rope": (16, 56, 56),
                    "guidance_embeds": True,
                },
                vae={"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 16},
                text={
                    "hidden_size": 768,
                    "intermediate_size": 3072,
                    "num_hidden_layers": 12,
                    "num_attention_heads": 12,
                },
                text_2={"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
                scheduler={"use_dynamic_shifting": True, "shift": 3.0},
                seed=0,
            )
    finally:
        torch.set_default_dtype(before)


def make_recipe(options: argparse.Namespace) -> EditorRecipe:
    """All steps trained; `ours` sets the window."""
    from editr1.training.editor.recipe import EditorRecipe

    return EditorRecipe.model_validate(
        {
            "name": "benchmark",
            "editor": "given",
            "contexts": {"stickers": "benchmark", "count": options.contexts * (options.rounds + 1)},
            "rewards": {"judge": {"kind": "verifier"}},
            "group_size": options.group,
            "contexts_per_step": options.contexts,
            "sampling": {"steps": options.steps, "batch_size": options.batch},
            "micro_batch_size": options.micro_batch,
            "grpo": {"noise_level": 0.9, "clip": 1e-2},
            "lora": {"rank": options.rank, "alpha": 2.0 * options.rank},
            "learning_rate": 1e-4,
            "precision": options.precision,
            "gradient_checkpointing": options.gradient_checkpointing,
        }
    )


def verifier_rewards(options: argparse.Namespace) -> list[Reward]:
    """A verifier for each of the three sides: each remembers its own principles only; the models are shared."""
    from editr1.rewards.verifier import VerifierReward
    from editr1.verifier import Verifier

    quick = Verifier.from_pretrained(options.verifier, device=options.device)
    other = quick
    if options.plain_engine == "generate":
        other = Verifier.from_pretrained(options.verifier, device=options.device, engine="generate")

    def fresh(base: Any) -> Reward:
        return VerifierReward(
            Verifier(base.judge, template=base.template, sampling=base.sampling, max_tries=base.max_tries)
        )

    return [fresh(quick), fresh(quick), fresh(other)]

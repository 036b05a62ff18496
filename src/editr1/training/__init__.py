"""Training, in the paper's order: `sft`, then `gcpo`, then RL of an `editor`; `ablation` compares what `sft` makes.

`vlm` and `pretrain` make the embedded models, on which all of it runs without a download. Files beside them are shared.
"""

"""A fast engine for groups of chats that begin alike, on models of the Qwen2.5-VL classes.

Editor RL scores 24 edits of one context, and GCPO draws many traces of one quadruple. What such chats have in common
is encoded once and its keys and values are shared by the group; what differs is encoded and decoded as one batch.

    from editr1.judges.fast import FastEngine, supports

    if supports(model):
        replies = FastEngine(model, processor).generate(requests)

The files, in the order in which a request meets them: `prompts` (tokens, pictures, which requests begin alike),
`layout` (positions and windows), `vision`, `text` (prefill and the decoding step over `cache`), `decode` (the loop,
greedy or sampled), `engine`. `weights` reads them off the model once; `support` says which models it can read.
Importing this package imports torch.
"""

from editr1.judges.fast.decode import Draw
from editr1.judges.fast.engine import FastEngine
from editr1.judges.fast.support import supports, why_unsupported

__all__ = ["Draw", "FastEngine", "supports", "why_unsupported"]

"""Tokenizers of FLUX's two text encoders, learnt from any texts, without downloads."""

from __future__ import annotations

import json
import math
import re
import string
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import CLIPTokenizer, T5Tokenizer

CLIP_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
T5_SPECIAL = ("<pad>", "</s>", "<unk>")

_SPACE = "\u2581"
"""Stands for the space before a word."""

_SPELT = -25.0
"""Log-probability of a character: a word that is known is never spelt."""


def learn_clip_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> CLIPTokenizer:
    """Byte-level BPE with word ends, lower case. Any text goes through it: all bytes are tokens.

    Args:
        texts: that it shall write with few tokens.
        vocab_size: 512 for bytes within words and at their ends, 2 special tokens, the rest merges.
        max_length: to which texts are cut and padded, in tokens.

    Raises:
        ValueError: if the size leaves no room for bytes and special tokens.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    least = 2 * len(alphabet) + len(CLIP_SPECIAL)
    if vocab_size < least:
        raise ValueError(f"vocab_size is {vocab_size}: bytes and special tokens alone are {least}")
    plain = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = plain.normalizer, plain.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    merges: Any = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]][: vocab_size - least]
    pieces = [*alphabet, *(f"{byte}</w>" for byte in alphabet), *("".join(pair) for pair in merges), *CLIP_SPECIAL]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=max_length)


def learn_t5_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> T5Tokenizer:
    """Unigram pieces: the most frequent words whole, and printable ASCII, with which any other word is spelt.

    The domains that this is for have few words, and each as one token makes texts as short as they can be. What is not
    ASCII becomes the unknown token.

    Args:
        texts: whose words are counted.
        vocab_size: upper limit; few words make it smaller.
        max_length: of a text, in tokens.

    Raises:
        ValueError: if the size leaves no room for characters and special tokens.
    """
    from transformers import T5Tokenizer

    characters = [_SPACE, *(c for c in string.printable if not c.isspace())]
    room = vocab_size - len(T5_SPECIAL) - len(characters)
    if room < 0:
        raise ValueError(f"vocab_size is {vocab_size}: characters and special tokens alone are {vocab_size - room}")
    counts = Counter(word for text in texts for word in re.findall(r"\w{2,}", text, flags=re.ASCII))
    words = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:room]
    total = sum(counts.values())
    vocabulary = [(piece, 0.0) for piece in T5_SPECIAL]
    vocabulary += [(_SPACE + word, math.log(count / total)) for word, count in words]
    vocabulary += [(character, _SPELT) for character in characters]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=max_length)

"""What transformers and diffusers say while they load a model, kept to what a reader of it can use."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

shown = True
"""Whether bars are shown where standard error is a terminal; commands with `--quiet` say no."""


@contextmanager
def hushed() -> Iterator[None]:
    """Around loading: bars on a terminal only, and no warnings of what the libraries do not like in one another.

    Bars and verbosity are afterwards as they were.
    """
    from transformers.utils import logging as transformers_logging

    loud: list[Any] = [transformers_logging]
    if "diffusers" in sys.modules:  # an extra, and slow to import
        from diffusers.utils import logging as diffusers_logging

        loud.append(diffusers_logging)
    bars = [module.is_progress_bar_enabled() for module in loud]
    levels = [module.get_verbosity() for module in loud]
    try:
        for module in loud:
            module.set_verbosity_error()
            if not (shown and sys.stderr.isatty()):
                module.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        for module, bar, level in zip(loud, bars, levels, strict=True):
            module.set_verbosity(level)
            if bar:
                module.enable_progress_bar()

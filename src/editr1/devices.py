"""Where a model runs, from what a user writes."""

from __future__ import annotations

import torch

from editr1.errors import ConfigError


def find_device(name: str | None) -> torch.device:
    """The device of a name such as "cpu" or "cuda:1"; without one, CUDA where there is a GPU, else the CPU.

    Raises:
        ConfigError: if there is no such kind of device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as exc:
        raise ConfigError(f"unknown device {name!r}: use e.g. cpu, cuda or cuda:1") from exc

"""Where a model runs, from what a user writes."""

from __future__ import annotations

import torch

from editr1.errors import ConfigError


def find_device(name: str | None) -> torch.device:
    """The device of a name such as "cpu" or "cuda:1"; without one, CUDA where there is a GPU, else the CPU.

    Raises:
        ConfigError: if there is no such device, or none of its kind on this machine.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise ConfigError(f"unknown device {name!r}: use e.g. cpu, cuda or cuda:1") from exc
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not count:
            raise ConfigError(f"the device {name!r} is not there: PyTorch sees no GPU; leave it out, or use cpu")
        if device.index is not None and device.index >= count:
            raise ConfigError(
                f"the device {name!r} is not there: PyTorch sees {count} GPUs, cuda:0 to cuda:{count - 1}"
            )
    return device

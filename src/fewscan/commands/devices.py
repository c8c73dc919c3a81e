"""Which device to run on."""

from __future__ import annotations

import torch

from fewscan.types import ConfigError


def choose_device(name: str) -> torch.device:
    """The named device; "auto" takes a GPU where there is one.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"--device {name}: not to be had here ({str(error).splitlines()[0]}). Try --device cpu."
        ) from None
    return device

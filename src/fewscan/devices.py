"""Which device to run on, and in which precision."""

from __future__ import annotations

from typing import Literal

import torch

from fewscan.errors import ConfigError

Precision = Literal["float32", "bfloat16"]


def choose_device(name: str) -> torch.device:
    """The named device; "auto" takes a GPU where there is one.

    Raises:
        ConfigError: No such device is here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise _not_here(name) from None
    return device


def _not_here(name: str) -> ConfigError:
    """What is missing, in other words than PyTorch's, which are of its insides."""
    kind = name.partition(":")[0]
    reasons = {
        "cuda": f"PyTorch sees {torch.cuda.device_count()} NVIDIA GPUs on this machine",
        "mps": "this machine has no GPU of Apple's that PyTorch can use",
    }
    reason = reasons.get(kind, "PyTorch knows no such device or cannot use it")
    return ConfigError(f"--device {name}: not to be had here: {reason}. Try --device cpu.")


def choose_own_device(name: str, local_rank: int) -> torch.device:
    """The device of one of several processes that train together: a GPU of its own, or the CPU that all share.

    Args:
        name: Name of a kind of device: "auto", "cpu" or "cuda".
        local_rank: Number of the process on this machine, from 0.

    Raises:
        ConfigError: The name is that of a single GPU or of another kind of device, or the machine has too few GPUs.
    """
    gpus = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and not gpus):
        return choose_device("cpu")
    if name not in ("auto", "cuda"):
        raise ConfigError(
            f"--device {name}: each of several processes takes a device of its own. Say --device cuda or cpu; "
            "CUDA_VISIBLE_DEVICES chooses among the GPUs."
        )
    if local_rank >= gpus:
        raise ConfigError(f"--device {name}: {gpus} GPUs here, and each process takes one. Start no more processes.")
    torch.cuda.set_device(local_rank)
    return choose_device(f"cuda:{local_rank}")


def list_devices(names: str) -> list[str]:
    """The devices to spread processes over: the named ones, or for "auto" every GPU, else the CPU.

    None is opened: a process that only waits for others should hold no memory of a GPU.

    Args:
        names: Names of devices with commas between, or "auto".

    Raises:
        ConfigError: A name is no device's here, or is given twice.
    """
    if names == "auto":
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]
    devices = [name.strip() for name in names.split(",")]
    if len(set(devices)) < len(devices):
        raise ConfigError(f"--device {names}: names a device twice. Each runs one process at a time.")
    for name in devices:
        _check_name(name)
    return devices


def _check_name(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise _not_here(name) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: there are {torch.cuda.device_count()} GPUs here. Try --device cpu.")


def choose_precision(name: str, device: torch.device) -> Precision:
    """The precision that networks compute in while they train.

    Measured on two cores with AVX-512 BF16: forward and backward of the U-Net take 1.7 times as long in float32.

    Args:
        name: Name of the precision: "float32", "bfloat16", or "auto", which takes bfloat16 where the device has
            instructions for it.
        device: Device that training runs on.

    Raises:
        ConfigError: The precision is bfloat16, and the device cannot compute in it, not even slowly.
    """
    if name == "auto":
        return "bfloat16" if _has_bfloat16(device) else "float32"
    if name == "bfloat16":
        if not _computes_bfloat16(device):
            raise ConfigError(f"precision=bfloat16: {device} cannot compute in it. Set precision=float32.")
        return "bfloat16"
    return "float32"


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def _computes_bfloat16(device: torch.device) -> bool:
    ones = torch.ones((1, 1, 3, 3), dtype=torch.bfloat16, device=device)
    try:
        torch.nn.functional.conv2d(ones, ones)
    except RuntimeError:
        return False
    return True

"""Same seed and machine, same weights: PyTorch's deterministic algorithms while training, and only then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fewscan.errors import FewscanError

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
# The larger of the two sizes with which NVIDIA promises repeatable results.
CUBLAS_WORKSPACE = ":4096:8"
# Its setting is a property that PyTorch puts on the module itself.
_memory: Any = torch.utils.deterministic
NO_ALGORITHM = "deterministic implementation"


@contextmanager
def determinism(wanted: bool, device: torch.device) -> Iterator[None]:
    """Use deterministic algorithms alone; everything is as before at the end. Nothing is done where not `wanted`.

    Args:
        wanted: `deterministic` of the settings.
        device: Device that training runs on; nothing of cuBLAS may have been used on it before.

    Raises:
        FewscanError: PyTorch has no deterministic algorithm for a step of the method on this device.
    """
    if not wanted:
        yield
        return
    before = _state()
    fill, workspace = bool(_memory.fill_uninitialized_memory), os.environ.get(CUBLAS)
    try:
        if device.type == "cuda":
            os.environ[CUBLAS] = CUBLAS_WORKSPACE
        torch.backends.cudnn.benchmark = False
        # It finds code that reads memory before it writes it, and costs time.
        _memory.fill_uninitialized_memory = False
        torch.use_deterministic_algorithms(True)
        yield
    except RuntimeError as error:
        if NO_ALGORITHM not in str(error):
            raise
        raise FewscanError(
            f"deterministic=true: {str(error).splitlines()[0]} Train with deterministic=false, or on another --device."
        ) from None
    finally:
        _restore(*before)
        _memory.fill_uninitialized_memory = fill
        if workspace is None:
            os.environ.pop(CUBLAS, None)
        else:
            os.environ[CUBLAS] = workspace


def _state() -> tuple[bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
    )


def _restore(enabled: bool, warn_only: bool, benchmark: bool) -> None:
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    torch.backends.cudnn.benchmark = benchmark

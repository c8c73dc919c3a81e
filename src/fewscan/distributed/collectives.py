"""Several processes train one model: what each of them, a rank, knows of the others.

On one process every function gives back what it was given, at once. Losses, batch statistics and memory banks use the
sums and the collections over all ranks, so that the mean over ranks of a loss and of its gradients is the loss and the
gradient of one process with the whole batch. The order of all calls has to be the same on every rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from fewscan.errors import FewscanError

# Rank 0 reads scans and validates while the others wait; of a rank that has died torchrun and the sockets know at once.
PATIENCE = timedelta(days=7)


class _Stretches(Protocol):
    """An array, or whatever else may be cut as one."""

    def __len__(self) -> int: ...

    def __getitem__(self, stretch: slice, /) -> Self: ...


S = TypeVar("S", bound=_Stretches)
# What lies on the host goes through this group, so that it never waits for a GPU; None: there is one process.
_host: dist.ProcessGroup | None = None


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the other ranks, as the environment variables of torchrun say, and leave them at the end.

    Args:
        device: Device of this rank; NCCL connects GPUs, gloo the rest.
    """
    global _host
    on_gpu = device.type == "cuda"
    dist.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
    try:
        _host = dist.new_group(backend="gloo", timeout=PATIENCE)
        yield
    finally:
        _host = None
        dist.destroy_process_group()


def count() -> int:
    """Number of ranks."""
    return 1 if _host is None else dist.get_world_size()


def rank() -> int:
    """This process's number among them; 0 writes, validates and speaks for all."""
    return 0 if _host is None else dist.get_rank()


@contextmanager
def alone() -> Iterator[None]:
    """This rank works for itself, as one process does: what asks the others inside is given back its own."""
    global _host
    host, _host = _host, None
    try:
        yield
    finally:
        _host = host


def own_share(drawn: S) -> S:
    """This rank's stretch of what all ranks have drawn alike; the number of ranks has to divide its length."""
    size = len(drawn) // count()
    return drawn[rank() * size : (rank() + 1) * size]


def own_number(number: int) -> int:
    """This rank's part of a number that all ranks together should come to; rounded up."""
    return -(-number // count())


def sum_over_ranks(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors of one dtype, each summed over the ranks; one exchange for all.

    Gradients are summed over the ranks too: they are those of the sum of all ranks' losses.

    Raises:
        FewscanError: Another rank has gone.
    """
    if _host is None:
        return tensors
    total: Tensor = _Sum.apply(torch.cat([t.reshape(-1) for t in tensors]))  # type: ignore[no-untyped-call]
    parts = total.split([tensor.numel() for tensor in tensors])
    return tuple(part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True))


class _Sum(torch.autograd.Function):
    """Torch's own all-reduce with a gradient is deprecated, and its functional collectives have none."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        del ctx
        return _all_reduced(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        return _all_reduced(gradients[0])


def _all_reduced(tensor: Tensor) -> Tensor:
    total = tensor.detach().clone(memory_format=torch.contiguous_format)
    with _together():
        dist.all_reduce(total, group=_group(total))
    return total


@torch.no_grad()
def average_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Set tensors of one dtype to their mean over the ranks, in place and without gradient; one exchange for all.

    Raises:
        FewscanError: Another rank has gone.
    """
    if _host is None:
        return
    kept = list(tensors)
    torch._foreach_copy_(kept, [total / count() for total in sum_over_ranks(*kept)])


def gather_over_ranks(tensor: Tensor) -> Tensor:
    """(b, ...) → (ranks · b, ...), in the order of the ranks, without gradient; of the same shape on every rank.

    Raises:
        FewscanError: Another rank has gone.
    """
    if _host is None:
        return tensor
    # Gloo knows no booleans.
    sent = tensor.detach().to(torch.uint8 if tensor.dtype == torch.bool else tensor.dtype).contiguous()
    gathered = sent.new_empty((count() * len(sent), *sent.shape[1:]))
    with _together():
        dist.all_gather(list(gathered.split(len(sent))), sent, group=_group(sent))
    return gathered.to(tensor.dtype)


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """As `gather_over_ranks`, with gradient: that of the sum of all ranks' losses.

    Raises:
        FewscanError: Another rank has gone.
    """
    if _host is None:
        return tensor
    slots = [tensor if number == rank() else torch.zeros_like(tensor) for number in range(count())]
    return sum_over_ranks(torch.cat(slots))[0]


@torch.no_grad()
def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with those of rank 0."""
    if _host is None:
        return
    for tensor in tensors:
        sent = tensor.detach().contiguous()
        with _together():
            dist.broadcast(sent, src=0, group=_group(sent))
        tensor.copy_(sent)


def largest_over_ranks(*values: int) -> tuple[int, ...]:
    """The largest of each value on any rank; asked on the host, and no GPU is waited for."""
    if _host is None:
        return values
    largest = torch.tensor(values, dtype=torch.int64)
    with _together():
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=_host)
    return tuple(int(value) for value in largest)


def text_from_first(text: str) -> str:
    """Rank 0's text, on every rank."""
    if _host is None:
        return text
    content = torch.tensor(list(text.encode()), dtype=torch.uint8)
    (length,) = largest_over_ranks(len(content) if rank() == 0 else 0)
    if rank() > 0:
        content = torch.zeros(length, dtype=torch.uint8)
    copy_from_first([content])
    return bytes(content.tolist()).decode()


def _group(tensor: Tensor) -> dist.ProcessGroup | None:
    return _host if tensor.device.type == "cpu" else None


@contextmanager
def _together() -> Iterator[None]:
    """What the ranks do together fails where one of them is gone."""
    try:
        yield
    except RuntimeError as error:
        raise FewscanError(
            f"Training stopped: another process of it has ended ({str(error).splitlines()[0].split('. ')[0]}). Look at "
            "what it said; the same command with --resume goes on from the last checkpoint."
        ) from error

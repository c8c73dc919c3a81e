"""Batch normalisation over the batches of all ranks. Torch's own, SyncBatchNorm, works on GPUs alone."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fewscan.distributed.collectives import count, gather_over_ranks, sum_over_ranks


def synchronise(module: nn.Module) -> None:
    """Let every batch normalisation in a module use the statistics of all ranks; parameters and names stay."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, SynchronisedBatchNorm(child))
        else:
            synchronise(child)


def track(norm: _BatchNorm, mean: Tensor, variance: Tensor, *, pixels: int) -> None:
    """Let a batch normalisation's running statistics come nearer to those of a batch, as PyTorch's own do.

    Args:
        norm: Batch normalisation; one without running statistics stays as it is.
        mean: Means of the batch's channels.
        variance: Variances of the batch's channels, sums of squares over the number of pixels.
        pixels: Number of pixels that they were taken over, at least 2.
    """
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    # As torch's own: without a momentum the running statistics are the mean over all batches.
    factor = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), factor)
    # Of a variance torch keeps the estimate without bias.
    norm.running_var.lerp_((variance * (pixels / (pixels - 1))).to(norm.running_var.dtype), factor)


class SynchronisedBatchNorm(_BatchNorm):
    """A batch normalisation, in 1D to 3D, whose batch is that of all ranks; running statistics are equal on them.

    Args:
        norm: Batch normalisation whose parameters and running statistics are taken over.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, False, False)
        self.affine, self.track_running_stats, self.training = norm.affine, norm.track_running_stats, norm.training
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(b, c, *space) → the same, normalised by channel.

        Raises:
            FewscanError: Another rank has gone.
        """
        if not self.training and self.running_mean is not None:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        normalised, mean, variance = _Normalise.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, self.eps
        )
        track(self, mean, variance, pixels=count() * input.numel() // input.shape[1])
        return normalised


class _Normalise(torch.autograd.Function):
    """Statistics and sums of gradients in float32 at least, one exchange forwards and one backwards.

    y = γ x̂ + β, x̂ = (x − μ)/σ;   ∂x = γ/σ (∂y − mean ∂y − x̂ · mean(∂y x̂)),   means over the batch of all ranks.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        exact = torch.promote_types(x.dtype, torch.float32)
        ctx.axes, ctx.shape = (0, *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
        own_variance, own_mean = torch.var_mean(x.to(exact), dim=ctx.axes, correction=0)
        # Not from sums of squares: they lose the digits of a small variance around a large mean.
        means, variances = gather_over_ranks(torch.stack((own_mean, own_variance))[None]).unbind(1)
        mean = means.mean(dim=0)
        variance = (variances + (means - mean).square()).mean(dim=0)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, scale = ctx.saved_tensors
        gradient = gradients[0].to(mean.dtype)
        unit = (x.to(mean.dtype) - mean.reshape(ctx.shape)) * scale.reshape(ctx.shape)
        own = gradient.sum(dim=ctx.axes), (gradient * unit).sum(dim=ctx.axes)
        pixels = count() * x.numel() // x.shape[1]
        mean_gradient, mean_product = (total.reshape(ctx.shape) / pixels for total in sum_over_ranks(*own))
        scale = scale if weight is None else scale * weight
        gradient_x = (gradient - mean_gradient - unit * mean_product) * scale.reshape(ctx.shape)
        has_weight = weight is not None
        return gradient_x.to(x.dtype), own[1] if has_weight else None, own[0] if has_weight else None, None

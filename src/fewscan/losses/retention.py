"""What an earlier network was sure of, a later one is to say too."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fewscan.distributed.collectives import sum_over_ranks


def retention(
    logits: Float[Tensor, "b k *space"],
    earlier: Float[Tensor, "b k *_space"],
    temperature: float,
    sure_from: float,
) -> Float[Tensor, ""]:
    """T² KL(softmax(z⁻ / T) ‖ softmax(z / T)), the mean over pixels of which the earlier network is sure.

    Learning without forgetting (Li and Hoiem, ECCV 2016, eq. 2) with Hinton's T², and 0 where no pixel is sure.

    Args:
        logits: Logits z of the network that is trained.
        earlier: Logits z⁻ of the earlier network, which take no gradient.
        temperature: Temperature T > 0 of both.
        sure_from: Confidence, the largest probability at temperature 1, from which a pixel counts, 0 to 1.

    Raises:
        ValueError: The shapes differ.

    Examples:
        >>> import torch
        >>> from fewscan.losses.retention import retention
        >>> sure = torch.tensor([[[6.0], [0.0]]])
        >>> f"{retention(sure, sure, 2.0, 0.9):.4f}", f"{retention(-sure, sure, 2.0, 0.9):.4f}"
        ('0.0000', '10.8618')
    """
    if logits.shape != earlier.shape:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}, those of the earlier network {tuple(earlier.shape)}"
        )
    earlier = earlier.detach()
    sure = (earlier.softmax(dim=1).amax(dim=1) >= sure_from).to(logits.dtype)
    told, said = (earlier / temperature).log_softmax(dim=1), (logits / temperature).log_softmax(dim=1)
    divergence = F.kl_div(said, told, reduction="none", log_target=True).sum(dim=1)
    total, count = sum_over_ranks((divergence * sure).sum(), sure.sum())
    return temperature**2 * total / count.clamp_min(1)

"""SAACL of ACTION++: supervised contrast with class centres that are spread over the sphere beforehand.

You et al., *ACTION++*, MICCAI 2023 (arXiv 2304.02689), method section 4.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fewscan.distributed.collectives import sum_over_ranks
from fewscan.losses.sampling import mean_over_classes


def uniform_centres(n_classes: int, embedding: int, tau: float) -> Float[Tensor, "k e"]:
    """Unit vectors ψ_1..ψ_k that minimise Σ_c log Σ_c' exp(ψ_c·ψ_c'/τ); in float64, computed once.

    With at least k − 1 dimensions they are the corners of a regular simplex, whatever τ.

    Examples:
        >>> import torch
        >>> from fewscan.losses.adaptive import uniform_centres
        >>> centres = uniform_centres(n_classes=3, embedding=8, tau=0.5)
        >>> torch.round(centres @ centres.T, decimals=4).abs()
        tensor([[1.0000, 0.5000, 0.5000],
                [0.5000, 1.0000, 0.5000],
                [0.5000, 0.5000, 1.0000]], dtype=torch.float64)
    """
    if embedding >= n_classes - 1:
        return simplex_centres(n_classes, embedding)
    return spread_centres(n_classes, embedding, tau)


def simplex_centres(n_classes: int, embedding: int) -> Float[Tensor, "k e"]:
    """k unit vectors with pairwise cosine −1/(k − 1), in the first k − 1 ≤ e dimensions.

    Row i of Helmert's matrix is 1 in i places, then −i, normed: its rows are orthonormal and orthogonal to (1, ..., 1),
    so its columns are the corners of a simplex.

    Examples:
        >>> import torch
        >>> from fewscan.losses.adaptive import simplex_centres
        >>> torch.round(simplex_centres(2, 3), decimals=4)
        tensor([[ 1.,  0.,  0.],
                [-1.,  0.,  0.]], dtype=torch.float64)
    """
    helmert = torch.zeros(max(n_classes - 1, 1), n_classes, dtype=torch.float64)
    for i in range(1, n_classes):
        helmert[i - 1, :i] = 1 / math.sqrt(i * (i + 1))
        helmert[i - 1, i] = -i / math.sqrt(i * (i + 1))
    corners = F.normalize(helmert.T, dim=-1)
    return F.pad(corners, (0, embedding - corners.shape[1]))


def centre_energy(centres: Float[Tensor, "k e"], tau: float) -> Float[Tensor, ""]:
    """Σ_c log Σ_c' exp(ψ_c·ψ_c'/τ), small where unit vectors are far from each other.

    Examples:
        >>> import torch
        >>> from fewscan.losses.adaptive import centre_energy
        >>> centre_energy(torch.eye(2), tau=1.0) < centre_energy(torch.ones(2, 2) / 2**0.5, tau=1.0)
        tensor(True)
    """
    return (centres @ centres.T / tau).logsumexp(dim=1).sum()


@torch.enable_grad()
def spread_centres(n_classes: int, embedding: int, tau: float, steps: int = 500) -> Float[Tensor, "k e"]:
    """The minimum of `centre_energy` by L-BFGS from a fixed random start: a good local one where there are many.

    Examples:
        >>> import torch
        >>> from fewscan.losses.adaptive import spread_centres
        >>> centres = spread_centres(n_classes=4, embedding=2, tau=0.5)  # the corners of a square
        >>> torch.round((centres @ centres.T).sort(dim=1).values[0], decimals=3).abs()
        tensor([1., 0., 0., 1.], dtype=torch.float64)
    """
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(n_classes, embedding, dtype=torch.float64, generator=generator).requires_grad_()
    optimiser = torch.optim.LBFGS([free], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        energy = centre_energy(F.normalize(free, dim=-1), tau)
        energy.backward()
        return energy

    optimiser.step(closure)
    return F.normalize(free.detach(), dim=-1)


def assign_centres(means: Float[Tensor, "k e"], centres: Float[Tensor, "k e"]) -> Int[Tensor, "k"]:
    """π that minimises Σ_c ‖ψ_π(c) − φ_c‖, exactly, for any number of classes (Kuhn, 1955).

    It is computed on the host, and waits for the device.

    Examples:
        >>> import torch
        >>> from fewscan.losses.adaptive import assign_centres
        >>> assign_centres(torch.tensor([[0.0, 0.9], [0.8, 0.0]]), torch.eye(2))
        tensor([1, 0])
    """
    cost = torch.cdist(means.cpu().double(), centres.cpu().double()).numpy()
    return torch.from_numpy(linear_sum_assignment(cost)[1]).to(means.device)


def move_means(
    means: Float[Tensor, "k e"], embeddings: Float[Tensor, "k q e"], present: Bool[Tensor, "k"], momentum: float
) -> Float[Tensor, "k e"]:
    """φ_c ← m φ_c + (1 − m) · the normalised mean of the class's unit embeddings; absent classes keep theirs.

    The mean is that of all ranks where the class is present.

    Examples:
        >>> import torch
        >>> from fewscan.losses.adaptive import move_means
        >>> means, embeddings = torch.eye(2), torch.eye(2).flip(0)[:, None]
        >>> move_means(means, embeddings, torch.tensor([True, False]), momentum=0.9)
        tensor([[0.9000, 0.1000],
                [0.0000, 1.0000]])
    """
    own_means = torch.where(present[:, None], F.normalize(embeddings, dim=-1).mean(dim=1), 0)
    totals, ranks = sum_over_ranks(own_means, present[:, None].to(own_means.dtype))
    batch_means = F.normalize(totals / ranks.clamp_min(1), dim=-1)
    return torch.where(ranks > 0, means.lerp(batch_means, 1 - momentum), means)


def adaptive_contrast(
    queries: Float[Tensor, "k q e"],
    keys: Float[Tensor, "k m e"],
    known: Bool[Tensor, "k m"],
    centres: Float[Tensor, "k e"],
    counted: Bool[Tensor, "k"],
    tau: float,
    centre_weight: float,
) -> Float[Tensor, ""]:
    """L_aaco (ACTION++; method section 4).

        L = −1/n Σ_i [ 1/|P_i| Σ_{j ∈ P_i} log e^{φ_i·φ_j/τ} / Z_i + λ_a log e^{φ_i·ν_i/τ} / Z_i ]
        Z_i = Σ_j e^{φ_i·φ_j/τ}

    over queries i of the counted classes; P_i are the keys of the class of i, ν_i its centre, Z_i goes over all keys.
    The mean over positives makes λ_a the weight of the centre against them however long the queue is.

    Args:
        queries: Embeddings φ_i, q of each class; gradient flows here.
        keys: Embeddings φ_j, m of each class from batch and queue; no gradient.
        known: Booleans, true for the keys that are there; the queue of a class may not be full yet.
        centres: Unit vectors ν, one for each class.
        counted: Classes whose queries count; they must have a key.
        tau: Temperature τ_sa > 0.
        centre_weight: Weight λ_a ≥ 0 of the centre against the positive keys.

    Examples:
        >>> import torch
        >>> from fewscan.losses.adaptive import adaptive_contrast, uniform_centres
        >>> centres = uniform_centres(2, 4, tau=0.5).float()
        >>> embeddings = centres[:, None]
        >>> loss = adaptive_contrast(
        ...     embeddings,
        ...     embeddings,
        ...     known=torch.ones(2, 1, dtype=torch.bool),
        ...     centres=centres,
        ...     counted=torch.tensor([True, True]),
        ...     tau=0.5,
        ...     centre_weight=1.0,
        ... )
        >>> f"{loss:.4f}"  # 2 ln(1 + e⁻⁴)
        '0.0363'
    """
    unit = F.normalize(queries, dim=-1)
    similarity = torch.einsum("kqe,vme->kqvm", unit, F.normalize(keys.detach(), dim=-1)) / tau
    # The smallest number rather than −∞: a row without any key must not make the gradient NaN.
    total = similarity.masked_fill(~known, torch.finfo(unit.dtype).min).flatten(2).logsumexp(dim=-1)
    own = similarity.diagonal(dim1=0, dim2=2)
    positive = torch.einsum("qmk,km->kq", own, known / known.sum(dim=1, keepdim=True).clamp_min(1).to(unit.dtype))
    centre = torch.einsum("kqe,ke->kq", unit, centres) / tau
    per_class = -(positive - total + centre_weight * (centre - total)).mean(dim=1)
    return mean_over_classes(per_class, counted)

"""What the network makes of scans: where they lie in its representation, and how unsure it is of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from fewscan.data.cases import Case
from fewscan.data.plans.base import Plan
from fewscan.inference.predict import Refusal, in_batches, read_ahead
from fewscan.inference.quality import entropy_sums
from fewscan.networks.layout import channels_last
from fewscan.networks.segmenter import SegmentationNetwork


class Description(NamedTuple):
    """Of a scan.

    Attributes:
        features: (e,) the bottleneck's maps, mean over pixels and patches.
        entropy: in nats per pixel of predicted foreground.
    """

    features: np.ndarray
    entropy: float


def describe_cases(
    network: SegmentationNetwork,
    plan: Plan,
    cases: Sequence[Case],
    device: torch.device,
    progress: Callable[[], None],
    on_refusal: Refusal,
) -> dict[str, Description]:
    """Describe scans by name; memory holds two of them at a time.

    Args:
        network: in evaluation mode, on the device.
        plan: of the model.
        cases: their images are read; their labels are not.
        device: of the network.
        progress: called once per case.
        on_refusal: called for a case that cannot be read, which is left out.
    """
    features: dict[str, np.ndarray] = {}
    entropies: dict[str, np.ndarray] = {}
    described = {}
    with ThreadPoolExecutor(1) as reader:
        for pieces in in_batches(read_ahead(reader, cases, plan, False, on_refusal)):
            block = torch.from_numpy(np.concatenate([piece.images for piece in pieces])).to(device)
            with torch.no_grad():
                logits, pyramid = network.logits_and_pyramid(channels_last(block))
                sums = entropy_sums(logits.softmax(dim=1))
                pooled = pyramid[0].mean(dim=(2, 3)).cpu().double().numpy()
            ends = np.cumsum([len(piece.images) for piece in pieces])[:-1]
            for piece, f, s in zip(pieces, np.split(pooled, ends), np.split(sums, ends), strict=True):
                name = piece.scan.case.name
                features[name] = features.get(name, 0) + f.sum(axis=0)
                entropies[name] = entropies.get(name, 0) + s.sum(axis=0)
                if piece.is_last:
                    entropy, foreground = entropies.pop(name)
                    described[name] = Description(features.pop(name) / len(piece.scan.starts), entropy / foreground)
                    progress()
    return described

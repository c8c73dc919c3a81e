"""Volumes of predicted masks, taken while they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fewscan.classes import Classes
from fewscan.data.cases import Case
from fewscan.inference.batches import ScanBlock
from fewscan.inference.predict import Observer
from fewscan.inference.predictor import Predictor
from fewscan.io.geometry import Geometry


class VolumeObserver:
    """Watches `predict_cases` and measures every mask.

    Attributes:
        millilitres: by case, and by scored class or region.

    Args:
        classes: of the model.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.millilitres: dict[str, dict[str, float]] = {}

    def on_block(self, predictor: Predictor, block: ScanBlock, probs: Tensor) -> None:
        """Nothing: volumes are those of whole masks."""

    def on_mask(self, case: Case, mask: np.ndarray, geometry: Geometry) -> None:
        """Count the voxels, slice by slice: counting takes eight times the memory of what is counted."""
        counts = sum(np.bincount(row.ravel(), minlength=len(self.classes.names)) for row in mask)
        voxel_ml = math.prod(geometry.spacing_mm) / 1000
        self.millilitres[case.name] = {
            region.name: float(np.take(counts, numbers).sum()) * voxel_ml
            for region, numbers in zip(self.classes.scored, self.classes.parts, strict=True)
        }


class Together:
    """Several observers in the place of one.

    Args:
        observers: told in this order.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = observers

    def on_block(self, predictor: Predictor, block: ScanBlock, probs: Tensor) -> None:
        """Tell all of them."""
        for observer in self.observers:
            observer.on_block(predictor, block, probs)

    def on_mask(self, case: Case, mask: np.ndarray, geometry: Geometry) -> None:
        """Tell all of them."""
        for observer in self.observers:
            observer.on_mask(case, mask, geometry)

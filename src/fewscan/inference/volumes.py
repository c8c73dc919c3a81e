"""Volumes of predicted masks, taken while they are made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fewscan.classes import Classes
from fewscan.data.cases import Case
from fewscan.evaluation.shape import region_volumes_ml
from fewscan.inference.batches import ScanBlock
from fewscan.inference.predict import Observer
from fewscan.inference.predictor import Predictor
from fewscan.io.geometry import Geometry


class VolumeObserver:
    """Watches `predict_cases` and measures every mask.

    Attributes:
        millilitres: Volumes in millilitres, by case, and by scored class or region.

    Args:
        classes: Classes of the model.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.millilitres: dict[str, dict[str, float]] = {}

    def on_block(self, predictor: Predictor, block: ScanBlock, probs: Tensor) -> None:
        """Nothing: volumes are those of whole masks."""

    def on_mask(self, case: Case, mask: np.ndarray, geometry: Geometry) -> None:
        """Measure the mask."""
        self.millilitres[case.name] = region_volumes_ml(self.classes.kinds(mask), geometry.spacing_mm, self.classes)


class Together:
    """Several observers in the place of one.

    Args:
        observers: Observers, told in this order.
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

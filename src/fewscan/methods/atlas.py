"""Multi-atlas segmentation: the labelled scans themselves are the model, by registration and without any learning.

The usual answer to few labels before networks (Iglesias & Sabuncu, *Multi-atlas segmentation of biomedical images: A
survey*, MedIA 2015), and a baseline that every network has to beat. Every labelled scan is registered to a new one, its
label follows, and where the labels differ those count more whose scans look more alike around the voxel:

    p_k(x) = Σ_a Σ_s w_as(x) 1[y_a(T_a(x) + s) = k] / Σ_a Σ_s w_as(x),   w_as = (d_as(x) / σ² + 0.001)^−β

Registration is SimpleITK's: affine by correlation, then demons (Thirion, MedIA 1998) with symmetric forces (Vercauteren
et al., *Diffeomorphic demons*, NeuroImage 2009, without its exponential map). Of fusion, the weights are local weighted
voting (Artaechevarria et al., IEEE TMI 2009), the shifts s those of Coupé et al. (NeuroImage 2011); the power β is
chosen by leaving labelled scans out. Joint label fusion (Wang et al., CVPR 2011, IEEE TPAMI 2013) also takes into
account that atlases err together; that is not done here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fewscan.classes import IGNORED
from fewscan.data.store import Store
from fewscan.errors import ConfigError
from fewscan.evaluation.overlap import dice_of_counts
from fewscan.inference.quality import mask_overlaps
from fewscan.methods.base import Batch, Method, MethodSettings, ModelSpec, Preparation, Stage, StepInfo
from fewscan.networks.atlas import NDIM, AtlasNetwork, AtlasNetworkSettings
from fewscan.settings import CountOrZero, NonNegative

NETWORK = AtlasNetworkSettings.model_fields


class AtlasSettings(MethodSettings):
    """How atlases are registered and fused, and how many are held out to choose the weights."""

    most: Annotated[int, Field(ge=1)] = Field(NETWORK["most"].default, description=NETWORK["most"].description)
    smoothing: NonNegative = Field(NETWORK["smoothing"].default, description=NETWORK["smoothing"].description)
    window: NonNegative = Field(NETWORK["window"].default, description=NETWORK["window"].description)
    search: Annotated[int, Field(ge=0, le=3)] = Field(
        NETWORK["search"].default, description=NETWORK["search"].description
    )
    powers: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = Field(
        (2.0, 1.0, 3.0),
        description="Powers of the weights to choose from, by the Dice of labelled scans that are held out in turn; "
        "the first one where that cannot be done, or of equals.",
    )
    held_out: CountOrZero = Field(
        8, description="Number of labelled scans, at most, that are held out in turn, each against all other patients."
    )


class Atlas(Method):
    """Holds the labelled scans, and chooses how to weigh their votes by leaving one out; nothing is trained.

    Raises:
        ConfigError: Images are not whole scans, so that there is nothing to register.
    """

    Settings = AtlasSettings
    n_dims: ClassVar[tuple[int, ...]] = (NDIM,)
    trains: ClassVar[bool] = False
    uses_unlabelled: ClassVar[bool] = False

    settings: AtlasSettings
    student: AtlasNetwork

    def __init__(self, spec: ModelSpec, settings: AtlasSettings) -> None:
        super().__init__(spec, settings)
        self._found: dict[str, float] = {}

    def make_network(self) -> AtlasNetwork:
        """A network that holds no atlas yet."""
        spec = self.spec
        first, second, third = spec.size if len(spec.size) == NDIM else (0, 0, 0)
        if not first:
            raise ConfigError("method=atlas registers whole scans, and the plan cuts slices. Train with --dims 3.")
        if not spec.whole:
            raise ConfigError(
                "method=atlas registers whole scans, and the plan cuts windows of them. Let the field of view be one "
                "patch: raise plan.voxels, or plan.coarsest, by which voxels may be larger."
            )
        return self._network(AtlasNetworkSettings(shape=(first, second, third)))

    def stages(self) -> tuple[Stage, ...]:
        """None: nothing is trained."""
        return ()

    def forward(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """Nothing is trained, so there is no step.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("the method atlas has no stages, and no training step")

    def start_phase(self, number: int, name: str, data: Store) -> None:
        """Take the labelled scans of the store, and choose how to weigh their votes."""
        del number, name
        patients = self._take(data)
        self._found = self._leave_out(patients)
        if self._found:
            self.student.settings = self.student.settings.model_copy(update={"power": self._found["power"]})

    def rehearse_phase(self, number: int, name: str, data: Store) -> Preparation:
        """Take the labelled scans, and leave none of them out."""
        del number, name
        patients = self._take(data)
        chosen = self._chosen(patients)
        if not chosen:
            return Preparation()
        most = self.settings.most
        registrations = sum(min(most, len(patients) - patients.count(patients[number])) for number in chosen)
        scans = "1 labelled scan" if len(chosen) == 1 else f"{len(chosen)} labelled scans in turn"
        return Preparation(f"leaving out {scans}", registrations / min(most, len(patients)))

    def findings(self) -> dict[str, float]:
        """Dice on the canvas of the labelled scans, each by the atlases of other patients: mean, and of every class."""
        return self._found

    def _network(self, settings: AtlasNetworkSettings) -> AtlasNetwork:
        return AtlasNetwork(self.spec.in_channels, self.spec.n_classes, NDIM, settings, self.spec.precision)

    def _take(self, data: Store) -> list[str]:
        """Let the student be a network of the store's labelled scans; their patients, one for each."""
        patches = data.labelled[:]
        target = self.spec.encode(data.labels(patches))
        labels = target.labels
        if target.weights is not None:
            labels = labels.masked_fill(target.weights == 0, IGNORED)
        settings = self.student.settings.model_copy(
            update={
                "atlases": len(patches),
                "power": self.settings.powers[0],
                **self.settings.model_dump(include={"most", "smoothing", "window", "search"}),
            }
        )
        self.student = self._network(settings).to(data.device)
        self.student.hold(data.images(patches), labels)
        return [data.cases[case].patient for case in patches.case]

    def _chosen(self, patients: Sequence[str]) -> list[int]:
        """Numbers of the scans that are left out in turn, evenly through all; none where all are of one patient."""
        if len(set(patients)) < 2 or self.settings.held_out == 0:
            return []
        numbers: list[int] = np.linspace(0, len(patients) - 1, self.settings.held_out).round().astype(int).tolist()
        return sorted(set(numbers))

    def _leave_out(self, patients: Sequence[str]) -> dict[str, float]:
        """Fuse held-out scans with every power; empty where none can be left out."""
        chosen = self._chosen(patients)
        if not chosen:
            return {}
        dice = np.mean([self._held_out_dice(number, patients) for number in chosen], axis=0)
        best = int(dice.mean(axis=1).argmax())
        classes = {f"left_out_dice_{number}": float(value) for number, value in enumerate(dice[best], start=1)}
        return {"left_out_dice": float(dice[best].mean()), **classes, "power": self.settings.powers[best]}

    @torch.no_grad()
    def _held_out_dice(self, number: int, patients: Sequence[str]) -> np.ndarray:
        """(p, k − 1): Dice of a labelled scan by the atlases of other patients, for every power and class."""
        same = [other for other, patient in enumerate(patients) if patient == patients[number]]
        network = self.student
        shares = network.shares(network.images[number : number + 1], self.settings.powers, left_out=same)[0]
        labels = network.labels[number].expand(len(shares), -1, -1, -1)
        found = shares.argmax(dim=1).masked_fill(labels == IGNORED, IGNORED)
        classes = [(k,) for k in range(1, network.n_classes)]
        both, total = mask_overlaps(found, labels, classes).cpu().numpy().transpose(2, 0, 1)
        return dice_of_counts(both, total)

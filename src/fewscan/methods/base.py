"""What a method is: one module whose forward on a semi-supervised batch is the training step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from fewscan.augment.policy import Augmentation, AugmentationSettings
from fewscan.augment.targets import Encode, FindObjects, Target, no_objects
from fewscan.data.exemplars import Exemplars
from fewscan.data.store import Store
from fewscan.losses.collapse import class_shares, mean_cosine_distance, subsample_pixels
from fewscan.networks.heads import RepresentationHead
from fewscan.networks.segmenter import NetworkSettings, SegmentationNetwork, build_network
from fewscan.settings import Count, CountOrZero, Settings

PSEUDO_LABELS = "pseudo_labels"


class Batch(NamedTuple):
    """What a training step is given, on one device; nothing in it may be written to.

    Attributes:
        images_labelled: Images (b_l, c, *space) of labelled scans.
        labels: Labels (b_l, *space) of the labelled images, integers as masks have them; `Augmentation.labelled` makes
            classes of them.
        images_unlabelled: Images (b_u, c, *space) of unlabelled scans.
        depths_unlabelled: Where the middles of the unlabelled images lie (b_u,), as a share of the way through their
            scans along the first axis of the canvas, 0 to 1; None: nobody knows.
    """

    images_labelled: Tensor
    labels: Tensor
    images_unlabelled: Tensor
    depths_unlabelled: Tensor | None = None

    def tensors(self) -> tuple[Tensor, ...]:
        """Give what there is, in the order of the attributes."""
        return tuple(tensor for tensor in self if tensor is not None)


class StepInfo(NamedTuple):
    """Where in its stage a training step is, and what its randomness comes from.

    Attributes:
        generator: Source of all draws of the step, on the batch's device.
        update: Number of the update in the stage, from 0.
        updates: Length of the stage in updates; where the time is limited, as it is planned now, which may change from
            one step to the next.
    """

    generator: torch.Generator
    update: int
    updates: int


@dataclass(frozen=True)
class Stage:
    """A stretch of training with its own batch.

    Attributes:
        name: Name of the stage in the log.
        updates: Length of the stage in updates; 0 leaves it out.
        labelled: Labelled images in a batch, of all processes together.
        unlabelled: Unlabelled images in a batch, of all processes together.
        fewest_labelled: Labelled images that each process needs in its share of a batch.
        fewest_unlabelled: Unlabelled images that each process needs in its share of a batch.
        section: Section of the method's own settings that decides batch and length, such as "pretraining.local";
            empty: `training`, which all methods share.
    """

    name: str
    updates: int
    labelled: int
    unlabelled: int
    fewest_labelled: int = 0
    fewest_unlabelled: int = 0
    section: str = ""

    def full_section(self, method: str) -> str:
        """Name, in the whole tree of settings, of the section that decides batch and length.

        Args:
            method: Name of the method in the settings.

        >>> Stage("local", 100, 4, 4, section="pretraining.local").full_section("action")
        'methods.action.pretraining.local'
        """
        return f"methods.{method}.{self.section}" if self.section else "training"


class TrainingSettings(Settings):
    """Length and batch of the training: as many updates for every method, whatever stages it spends them on."""

    updates: Count = Field(
        description="Number of updates of the weights in the whole training, stages of pre-training included."
    )
    labelled: CountOrZero = Field(
        description="Number of labelled patches in a batch, which all processes share; stages of pre-training "
        "have their own."
    )
    unlabelled: CountOrZero = Field(
        description="Number of unlabelled patches in a batch, which all processes share; stages of "
        "pre-training have their own."
    )
    pool: Literal["drawn", "all"] = Field(
        "drawn",
        description="Choice of the unlabelled scans that are read and preprocessed. drawn: as many as the updates can "
        "draw patches of, at least 1000, chosen by the seed; all: every one.",
    )


class Preparation(NamedTuple):
    """What a method does with the scans of a phase before its first update, where that takes long.

    Attributes:
        name: Words for it, such as "leaving out 4 labelled scans in turn"; empty: there is none.
        predictions: Number of predictions of an image that it takes as long as, 0 or more.
    """

    name: str = ""
    predictions: float = 0.0


class Earlier(NamedTuple):
    """What a training that starts from a finished run is given of it.

    Attributes:
        networks: Network for prediction, and the method's second one where there is one; at least one.
        exemplars: Patches of earlier sites that the run has kept; None: it has kept none.
    """

    networks: tuple[SegmentationNetwork, ...]
    exemplars: Exemplars | None = None


class MethodSettings(Settings):
    """Base of every method's own settings."""

    def check_training(self, training: TrainingSettings) -> None:
        """Look whether length and batch of the training suit the method; those of most methods may be any.

        Args:
            training: Length and batch of the whole training.

        Raises:
            ValueError: Length or batch does not suit the method; the message begins with the name of one of the
                method's own settings.
        """


@dataclass(frozen=True)
class ModelSpec:
    """What every method is built from.

    Attributes:
        in_channels: Number of channels of the images, 1 or more.
        n_classes: Number of classes, background included, 2 or more.
        size: Sides of the images in pixels, 2 or 3 of them.
        network: Settings of the segmentation network, of the class that their kind names.
        augmentation: Settings of weak and strong views.
        training: Length and batch of the training.
        precision: Type of the networks' arithmetic, such as torch.bfloat16; None: that of the images.
        encode: Function that makes of a batch of augmented labels what a network is taught; `Target` where they are
            taught as the classes that they are.
        find_objects: Function from classes that a network is taught to labels that number the objects in them, which
            mixing leaves whole; `no_objects` where there are none.
        whole: Whether an image is all that the plan shows of a scan; else images are slices or windows of it.
    """

    in_channels: int
    n_classes: int
    size: tuple[int, ...]
    network: NetworkSettings
    augmentation: AugmentationSettings
    training: TrainingSettings
    precision: torch.dtype | None = None
    encode: Encode = Target
    find_objects: FindObjects = no_objects
    whole: bool = False

    def build_network(self) -> SegmentationNetwork:
        """A segmentation network with fresh weights."""
        return build_network(self.in_channels, self.n_classes, len(self.size), self.network, self.precision)


class Method(nn.Module, ABC):
    """A semi-supervised method: networks, heads and banks are its modules, its state dict is the checkpoint.

    Attributes:
        Settings: Class of the method's own settings.
        n_dims: Numbers of axes of the images that the method works on.
        trains: Whether weights are trained; else there are no stages, and `start_phase` makes the model.
        uses_unlabelled: Whether unlabelled scans take part; else the method is none of those that they could help.
        continues_without_labels: Whether training that starts from a finished run can do without any label.
        student: Network that is trained, or that is made from the labelled scans where nothing is trained.
    """

    Settings: type[MethodSettings] = MethodSettings
    n_dims: ClassVar[tuple[int, ...]] = (2, 3)
    trains: ClassVar[bool] = True
    uses_unlabelled: ClassVar[bool] = True
    continues_without_labels: ClassVar[bool] = False

    settings: MethodSettings
    student: SegmentationNetwork

    def __init__(self, spec: ModelSpec, settings: MethodSettings) -> None:
        super().__init__()
        settings.check_training(spec.training)
        self.spec = spec
        self.settings = settings
        self.augment = Augmentation(spec.augmentation, spec.encode, spec.find_objects)
        self.student = self.make_network()
        self._diagnostics: dict[str, Tensor] = {}

    def make_network(self) -> SegmentationNetwork:
        """Build the student with fresh weights: the network of the settings, unless the method has one of its own."""
        return self.spec.build_network()

    def record_pseudo_labels(self, labels: Tensor) -> None:
        """Say which classes (b, *space) a step took unlabelled images for; alarms watch that it is not one alone."""
        self._diagnostics[PSEUDO_LABELS] = class_shares(
            subsample_pixels(labels, channel_axes=0).flatten(), self.spec.n_classes
        )

    def record_predictions(self, maps: Tensor) -> None:
        """As `record_pseudo_labels`, of logits or probabilities (b, k, *space)."""
        self._diagnostics[PSEUDO_LABELS] = class_shares(
            subsample_pixels(maps.detach(), channel_axes=1).argmax(dim=1).flatten(), self.spec.n_classes
        )

    def record_embeddings(self, name: str, embeddings: Tensor) -> None:
        """Say what a step embedded (b, *p, e); alarms watch that it does not all become alike."""
        if len(embeddings) > 1:
            self._diagnostics[name] = mean_cosine_distance(embeddings.detach())

    def pop_diagnostics(self) -> dict[str, Tensor]:
        """What the last step said about itself, small tensors on the device, given once."""
        diagnostics, self._diagnostics = self._diagnostics, {}
        return diagnostics

    @abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """The stages in their order; a stage of no updates is left out by the loop.

        None where nothing is trained: the method takes all that it needs from the store, see `start_phase`.
        """

    @abstractmethod
    def forward(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """One training step: named, unweighted loss terms."""

    def start_from(self, earlier: Earlier) -> None:
        """Called on a method with fresh weights, before all else, where training starts from a finished run.

        The first of `networks()` gets the weights of the run's network for prediction, the others those of its second
        network, where it is given, so that two that watch each other stay two.

        Args:
            earlier: What the run has left.

        Raises:
            RuntimeError: The run's network is of another form.
        """
        first, last = earlier.networks[0], earlier.networks[-1]
        for number, network in enumerate(self.networks().values()):
            network.load_state_dict((last if number else first).state_dict())

    def earlier_images(self) -> Tensor | None:
        """Images (n, c, *space) of earlier sites that take part in training, for statistics; None: there are none."""
        return None

    def earlier_labels(self) -> Tensor | None:
        """Labels (n, *space) of those images, by which it is judged what is seen in others; None: there are none."""
        return None

    def start_phase(self, number: int, name: str, data: Store) -> None:
        """Called before the first stage of a phase, such as a site whose data have arrived; most methods have one.

        Here a method that learns sites one after the other keeps what it was (a copy of the decoder, a frozen teacher)
        and adds what is new, and a method that keeps scans as they are takes them from the store. Training that goes
        on from a checkpoint calls it again, in order, for every phase so far, on a method with fresh weights, and then
        loads the method's state: which modules and buffers there are must follow from the phases alone.

        Args:
            number: Number of the phase, from 0.
            name: Name of the phase.
            data: Patches of the phase's training scans; labels of unlabelled scans cannot be had.

        Raises:
            FewscanError: The method cannot work with these scans.
        """

    def rehearse_phase(self, number: int, name: str, data: Store) -> Preparation:
        """Do of `start_phase` what updates and predictions need, on a method that is thrown away once it was timed.

        What takes long is left out; most methods have nothing of the kind.

        Args:
            number: Number of the phase, from 0.
            name: Name of the phase.
            data: Patches of the phase's training scans.

        Returns:
            What was left out.
        """
        self.start_phase(number, name, data)
        return Preparation()

    def findings(self) -> dict[str, float]:
        """What the method has found out of a phase's scans before its first update, by name, for the log."""
        return {}

    def start_stage(self, stage: Stage) -> None:
        """Called before the first update of a stage."""

    def weights(self, info: StepInfo) -> dict[str, float]:
        """The weight of each term at this update; a term without one counts as it is."""
        del info
        return {}

    def after_update(self, info: StepInfo) -> None:
        """Called after the optimiser's step."""

    def networks(self) -> dict[str, SegmentationNetwork]:
        """The segmentation networks that could be used for prediction, by name; the default one first."""
        return {"student": self.student}

    def representation_head(self) -> RepresentationHead | None:
        """The trained head that embeds the student's pixels; None: the method has none."""
        return None

"""A trained model on disk: `model.safetensors` and `model.json`, all that prediction needs and nothing to unpickle.

Where the method has two networks, `second.safetensors` holds the other one, which the first is compared with. A run of
folds has such files for each, in `folds/0`, `folds/1`, ...; `folds.json` says that it is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import Field, ModelWrapValidatorHandler, TypeAdapter, ValidationError, computed_field, model_validator

from fewscan.data.plans.kinds import AnyPlan
from fewscan.errors import DataError
from fewscan.inference.postprocess import Step
from fewscan.io.files import atomic_path, read_json, write_json
from fewscan.io.terms import SegmentTerms
from fewscan.networks.layout import weights_channels_last
from fewscan.networks.segmenter import AnyNetworkSettings, SegmentationNetwork, build_network
from fewscan.registry import NETWORKS, PLANS, TASKS
from fewscan.settings import StrictModel
from fewscan.tasks.base import Task, task_of

# 2: several kinds of networks, of 2 or 3 dimensions. 3: post-processing. 4: how probabilities are decoded.
# 5: what classes are to other programs.
FORMAT = 5
WEIGHTS = "model.safetensors"
SECOND_WEIGHTS = "second.safetensors"
CARD = "model.json"
# What a plan tells of its data set, and changes nothing of a canvas.
TOLD_OF_PLAN = {"notes", "ceiling", "turned"}
FOLDS = "folds"
FOLDS_HELD_OUT = "folds.json"
HELD_OUT = TypeAdapter(Annotated[tuple[tuple[str, ...], ...], Field(min_length=1)])
# What may be from outside, the section and field of the card that name it, and who knows it.
KINDS = (("network", "network", "kind", NETWORKS), ("plan", "plan", "kind", PLANS), ("task", "plan", "task", TASKS))


class ModelCard(StrictModel):
    """What `model.json` says.

    Attributes:
        format: Version of this file's format, from 1.
        method: Name of the method that trained the network.
        network_name: Name of the network among the method's, such as teacher.
        network: Settings of the network; their kind names its class.
        plan: Plan by which scans become input.
        flips: Whether training flipped images, so that test-time augmentation may.
        postprocessing: Steps that are done to a mask before it is written, in this order.
        decoding: What was chosen on held-out cases of what the task leaves open between probabilities and masks, by its
            names; empty: the task's defaults.
        terms: Codes and colours that dataset.json gives classes, by class; others have those of their names.
        located: Whether canvases lie where another model has found the anatomy, which is in the run's `locator/`.
    """

    format: Annotated[int, Field(ge=1, le=FORMAT)] = FORMAT
    method: str
    network_name: str
    network: AnyNetworkSettings
    plan: AnyPlan
    flips: bool
    postprocessing: tuple[Step, ...] = ()
    decoding: dict[str, float] = Field(default_factory=dict)
    terms: dict[str, SegmentTerms] = Field(default_factory=dict)
    # Where it is not so, nothing is said of it, as in cards of before there was such a thing.
    located: Annotated[bool, Field(exclude_if=lambda value: not value)] = False

    @property
    def task(self) -> Task:
        """The task of the plan, which decodes as was chosen."""
        return task_of(self.plan, self.decoding)

    @model_validator(mode="after")
    def _steps_are_of_classes(self) -> Self:
        if any(step.of >= len(self.plan.class_names) for step in self.postprocessing):
            raise ValueError("postprocessing is of a class that the plan does not have")
        return self

    @model_validator(mode="after")
    def _decoding_is_of_the_task(self) -> Self:
        task_of(self.plan, self.decoding)
        return self

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ndim(self) -> int:
        """Axes of space that the network works on, 2 or 3: those of the plan's patches."""
        return self.plan.ndim

    @model_validator(mode="wrap")
    @classmethod
    def _axes_are_those_of_the_plan(cls, value: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Of a file, whose `ndim` is there for other readers; format 1 has none."""
        if not isinstance(value, dict) or "ndim" not in value:
            return validate(value)
        card = validate({name: told for name, told in value.items() if name != "ndim"})
        if value["ndim"] != card.ndim:
            raise ValueError(f"ndim is {value['ndim']!r}, the plan gives images of {card.ndim} axes")
        return card


def save_model(
    folder: Path, network: SegmentationNetwork, card: ModelCard, second: SegmentationNetwork | None = None
) -> None:
    """Write the files; the weights in their own precision, on the CPU.

    Args:
        folder: Folder that is there.
        network: Network for prediction.
        card: Description of the network.
        second: Other network of the method, of the same form; None: there is one alone.

    Raises:
        WriteError: A file cannot be written.
    """
    _write_weights(folder / WEIGHTS, network)
    if second is not None:
        _write_weights(folder / SECOND_WEIGHTS, second)
    write_card(folder, card)


def write_card(folder: Path, card: ModelCard) -> None:
    """Write `model.json`.

    Args:
        folder: Folder that is there.
        card: Description of the model.

    Raises:
        WriteError: The file cannot be written.
    """
    write_json(folder / CARD, card.model_dump(mode="json"))


def load_model(folder: Path, device: torch.device) -> tuple[tuple[SegmentationNetwork, ...], ModelCard]:
    """Read a run's model, ready to predict: its network, or those of all its folds.

    Args:
        folder: Folder of a run, or any folder with the files of a model.
        device: Device to predict on.

    Returns:
        Networks whose probabilities are to be averaged, and the card of each of them.

    Raises:
        DataError: A file is missing or does not belong to a model of fewscan.
    """
    card = read_card(folder)
    return tuple(_load_network(part / WEIGHTS, card, device) for part in part_folders(folder)), card


def load_ensemble(folders: Sequence[Path], device: torch.device) -> tuple[tuple[SegmentationNetwork, ...], ModelCard]:
    """Read the models of several runs, whose probabilities are to be averaged.

    Args:
        folders: Folders of runs, at least one; they may differ in method, network and labelled scans.
        device: Device to predict on.

    Returns:
        Networks of all runs, and the card of the first; its `flips` says whether all of them were trained with flips.

    Raises:
        DataError: A file is missing or does not belong to a model, or the runs bring scans to different canvases.
    """
    loaded = [load_model(folder, device) for folder in folders]
    first = loaded[0][1]
    for folder, (_, card) in zip(folders, loaded, strict=True):
        ours, theirs = (c.plan.model_dump(exclude=TOLD_OF_PLAN) for c in (first, card))
        other = [name for name in ours if ours[name] != theirs.get(name)]
        if type(card.plan) is not type(first.plan) or other:
            raise DataError.of(
                folder,
                f"its plan is not that of {folders[0]}: other {', '.join(other) or 'kind'}",
                "Average runs of one data set and the same plan settings; predict with the others alone",
            )
        if card.located != first.located:
            raise DataError.of(
                folder,
                f"of it and {folders[0]} one looks where another model points, and the other does not",
                "Predict with them one by one",
            )
    networks = tuple(network for own, _ in loaded for network in own)
    return networks, first.model_copy(update={"flips": all(card.flips for _, card in loaded)})


def load_second(folder: Path, card: ModelCard, device: torch.device) -> tuple[SegmentationNetwork, ...]:
    """Read the other network of a run, or of each of its folds, ready to predict.

    Args:
        folder: Folder of a run, or any folder with the files of a model.
        card: Card of the model.
        device: Device to predict on.

    Returns:
        Networks whose probabilities are to be averaged; empty where the method has no other network, or a file was
        left behind.

    Raises:
        DataError: A file does not belong to the model of the card.
    """
    paths = [part / SECOND_WEIGHTS for part in part_folders(folder)]
    if not all(path.is_file() for path in paths):
        return ()
    return tuple(_load_network(path, card, device) for path in paths)


def part_folders(folder: Path) -> list[Path]:
    """The folders that hold a network each: the run's own, or those of its folds, which need not be there yet.

    Args:
        folder: Folder of a run, or any folder with the files of a model.

    Raises:
        DataError: The file that says what the folds hold out is damaged.
    """
    return [folder / FOLDS / str(number) for number in range(len(read_held_out(folder)))] or [folder]


def read_held_out(folder: Path) -> tuple[tuple[str, ...], ...]:
    """Names of the patients that each fold of a run holds out; empty: it is no run of folds.

    Args:
        folder: Folder of a run, or any folder with the files of a model.

    Raises:
        DataError: The file that says so is damaged.
    """
    path = folder / FOLDS_HELD_OUT
    if not _is_file(path):
        return ()
    try:
        return HELD_OUT.validate_python(read_json(path))
    except ValidationError:
        raise DataError.of(path, "not the folds of a fewscan run", "Restore it") from None


def _load_network(path: Path, card: ModelCard, device: torch.device) -> SegmentationNetwork:
    # Without memory, so that no random weights are drawn only to be replaced.
    with torch.device("meta"):
        network = build_network(len(card.plan.channel_names), task_of(card.plan).outputs, card.ndim, card.network)
    weights = _read_weights(path)
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise DataError.of(
            path, "the weights do not fit the network of model.json", f"Take all files from the same run. ({error})"
        ) from None
    faulty = [name for name, value in network.state_dict().items() if not _is_sound(value)]
    if faulty:
        raise DataError.of(path, f"{faulty[0]} holds no finite float32 numbers", "Copy it again")
    return weights_channels_last(network.to(device)).eval()


def _is_sound(weights: torch.Tensor) -> bool:
    """Of parameters and of a normalisation's statistics; its count of batches is the one whole number."""
    if weights.dtype == torch.int64 and weights.ndim == 0:
        return True
    return weights.dtype == torch.float32 and bool(weights.isfinite().all())


def read_card(folder: Path) -> ModelCard:
    """Read what a run's model is, without its weights.

    Raises:
        DataError: The file is missing or not of a model of fewscan, or a run's folds are of different models.
    """
    parts = part_folders(folder)
    cards = [_read_own_card(part) for part in parts]
    other = next((number for number, card in enumerate(cards) if card != cards[0]), None)
    if other is not None:
        raise DataError.of(
            parts[other], "is of another plan or network than fold 0", "Take all folds from the same run"
        )
    # What was chosen for the folds together stands in the run's own card, once there is one.
    if len(parts) > 1 and (folder / CARD).is_file():
        return _read_own_card(folder)
    return cards[0]


def _read_own_card(folder: Path) -> ModelCard:
    path = folder / CARD
    _require_file(path)
    told = read_json(path)
    _check_parts_are_known(path, told)
    try:
        return ModelCard.model_validate(told)
    except ValidationError as error:
        raise DataError.of(path, "not the description of a fewscan model", f"Restore it. {error}") from None


def _check_parts_are_known(path: Path, told: Any) -> None:
    """Refuse what nobody in this process knows: a model may be somebody else's, and so may be its code."""
    for part, section, field, registry in KINDS:
        described = told.get(section) if isinstance(told, dict) else None
        kind = described.get(field) if isinstance(described, dict) else None
        if isinstance(kind, str) and kind not in registry:
            option = f"say --{part} {kind}, or " if part == section else ""
            raise DataError.of(
                path,
                f"the {part} {kind!r} is not known here, and no code is imported because a file names it",
                f"If you trust it, {option}{part.upper()}S.load({kind!r}) in Python, or install its package",
            )


def _require_file(path: Path) -> None:
    if not _is_file(path):
        raise DataError.of(path, "not there", "Give the folder of a finished `fewscan train` run")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise DataError.of(path, f"cannot be read: {error.strerror}", "Check its permissions") from None


def _write_weights(path: Path, network: SegmentationNetwork) -> None:
    from safetensors.torch import save

    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with atomic_path(path) as beside:
        beside.write_bytes(save(weights))


def _read_weights(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _require_file(path)
    try:
        return load_file(path)
    except OSError as error:
        raise DataError.of(path, f"cannot be read: {error}", "Check its permissions") from None
    except SafetensorError as error:
        raise DataError.of(path, "not a readable safetensors file", f"Copy it again. ({error})") from None

"""Masks of many scans in one folder: what it may hold already, what is left out, and the tables beside the masks."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from fewscan.classes import Classes
from fewscan.data.appearance import appearance_of, channel_features
from fewscan.data.cases import Case
from fewscan.data.check import ImagesCheck
from fewscan.data.plans.base import Plan
from fewscan.data.reading import read_shown
from fewscan.engine.machine_errors import explained_memory
from fewscan.errors import DataError, Fault, WriteError
from fewscan.inference.model import ModelCard
from fewscan.inference.predict import CUT_OFF, predict_cases
from fewscan.inference.predictor import Predictor
from fewscan.inference.views import augmentation_views
from fewscan.io.endings import scan_ending
from fewscan.io.files import check_name, make_folder, write_json
from fewscan.io.formats import format_of
from fewscan.io.geometry import PIXEL, Geometry
from fewscan.io.scans import is_ours, read_mask
from fewscan.io.tables import write_table
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.reporting.outlines import save_outlines
from fewscan.run_folder import PredictionFolder
from fewscan.runs.meaning import MASK_FORMATS, meaning_of
from fewscan.runs.quality import QualityAssessor
from fewscan.runs.results import Predictions
from fewscan.runs.scoring import say_remarks
from fewscan.terminal.console import Reporter
from fewscan.words import abbreviate


def check_output(cases: Sequence[Case], folder: PredictionFolder, save_probabilities: bool) -> None:
    """Refuse to write masks over scans, labels, masks that somebody made, or whatever else is not fewscan's own."""
    check_name(folder.path)
    # Not Path.resolve, which raises where a link leads in a circle; that is a fault of one scan.
    scans = {os.path.realpath(path) for case in cases for path in case.images}
    for case in cases:
        path = folder.mask(case)
        if os.path.realpath(path) in scans:
            raise DataError.of(path, "is a scan, its mask would be written over it", "Choose another output folder")
    paths = [folder.mask(case) for case in cases]
    if save_probabilities:
        paths += [folder.probabilities(case) for case in cases]
    paths += [folder.overlay(case) for case in cases]
    foreign = [path.name for path in paths if os.path.lexists(path) and not is_ours(path)]
    if foreign:
        raise DataError.of(
            folder.path,
            "files there would be written over that no `fewscan predict` wrote, or one of an older version: "
            f"{abbreviate(foreign)}",
            "Choose another output folder, or move them away",
        )


def predict_into(
    folder: PredictionFolder,
    cases: Sequence[Case],
    *,
    networks: tuple[SegmentationNetwork, ...],
    card: ModelCard,
    device: torch.device,
    tta: bool,
    save_probabilities: bool,
    assessor: QualityAssessor | None,
    reporter: Reporter,
) -> Predictions:
    """Write a mask for every scan that can be read, and the tables; what an earlier call left of the others goes.

    Args:
        folder: Folder to write to; made, and locked for this process.
        cases: The scans, one per mask.
        networks: Networks of the model, on the device, whose probabilities are averaged.
        card: Description that all of the networks share.
        device: Device that the networks run on.
        tta: Whether to average over rotations, and over flips where training had them.
        save_probabilities: Whether to write `CASE.npz` too.
        assessor: Assessor that watches for quality, and writes its table; None: no table.
        reporter: Reporter that shows progress.

    Raises:
        DataError: Scans were left out, every one with its faults; all others have their masks by then.
        WriteError: A file cannot be written or removed.
        FewscanError: The memory is not enough.
    """
    # Stopped half-way, this call leaves no table beside its masks that an earlier one made of others.
    for path in (*folder.tables, folder.failed):
        _remove(path)
    _remove_other_formats(cases, folder)
    failed = _find_faults(cases, card.plan, folder, reporter, assessor)
    cut_off: list[str] = []

    def leave_out(case: Case, error: DataError) -> None:
        failed[case.name] = error.faults

    sound = [case for case in cases if case.name not in failed]
    views = augmentation_views(card.flips, card.ndim, card.plan.turning_planes) if tta else []
    task = card.task
    tables = task.tables(card.plan)
    meaning = meaning_of(card)

    masks: dict[str, Path] = {}
    with (
        reporter.bar("predicting", len(sound)) as step,
        explained_memory("Predict without --tta, or on another --device."),
    ):
        for case, path in predict_cases(
            Predictor(networks, views),
            card.plan,
            sound,
            folder.path,
            device,
            ending=folder.ending,
            save_probabilities=save_probabilities,
            progress=step,
            on_refusal=leave_out,
            observer=assessor.observer if assessor is not None else None,
            on_cut_off=lambda case: cut_off.append(case.name),
            postprocessing=card.postprocessing,
            tables=tables,
            meaning=meaning,
            decode=task.decode,
        ):
            masks[case.name] = path
            if assessor is not None:
                assessor.add(case)
            if task.is_outlined:
                _draw(folder, case, path, task.classes)
    reporter.say(f"{len(masks)} masks written to {folder}")
    say_remarks(networks, reporter)
    if cut_off:
        reporter.say(f"{CUT_OFF}: {abbreviate(cut_off)}")
    for table in tables.tables(list(masks)):
        write_table(folder.path / table.name, table.header, table.rows)
    if assessor is not None:
        assessor.write(folder)
    removed = {case.name: _remove_earlier(case, folder) for case in cases if case.name in failed}
    _report_failed(folder, failed, removed)
    return Predictions(folder.path, tuple(masks.values()))


def _draw(folder: PredictionFolder, case: Case, path: Path, classes: Classes) -> None:
    """Outline a mask that was written on its picture."""
    make_folder(folder.overlays)
    numbers = classes.to_inside(read_mask(path).array, path)
    save_outlines(folder.overlay(case), read_shown(case.images[0], case.reading).picture, classes.colours(numbers))


def _remove_other_formats(cases: Sequence[Case], folder: PredictionFolder) -> None:
    """Remove masks of an earlier call in other formats: of two masks of a scan nobody would know which is meant."""
    own = {folder.mask(case) for case in cases}
    others = [PredictionFolder(folder.path, ending) for ending in (*MASK_FORMATS.values(), None)]
    for path in {other.mask(case) for other in others for case in cases} - own:
        if os.path.lexists(path) and is_ours(path):
            _remove(path)


def _find_faults(
    cases: Sequence[Case],
    plan: Plan,
    folder: PredictionFolder,
    reporter: Reporter,
    assessor: QualityAssessor | None,
) -> dict[str, Sequence[Fault]]:
    """What is wrong with scans that cannot be predicted, by case; says what is worth a look at the others.

    What they look like is shown to the assessor, so that each is read for both at once.
    """
    failed: dict[str, Sequence[Fault]] = {}
    notes: dict[tuple[str, str], list[str]] = defaultdict(list)
    with reporter.bar("checking scans", len(cases)) as step:
        for case in cases:
            check = ImagesCheck(case.images, case.reading)
            looks = [
                channel_features(scan.array) for path in case.images for scan in check.read(path) if scan is not None
            ]
            faults = [*check.faults, *_of_other_kind(case, check.geometry, plan)]
            if check.geometry is not None:
                faults += _cannot_hold(case, check.geometry, folder)
            fatal = [fault for fault in faults if fault.fatal]
            if fatal:
                failed[case.name] = fatal
            else:
                if assessor is not None and check.geometry is not None:
                    assessor.look_at(case, appearance_of(check.geometry, looks))
                for fault in faults:
                    notes[fault.problem, fault.remedy].append(Path(fault.file).name)
            step()
    for (problem, remedy), files in notes.items():
        reporter.say(f"worth a look: {problem}: {abbreviate(files)}. {remedy}.")
    return failed


def _cannot_hold(case: Case, geometry: Geometry, folder: PredictionFolder) -> list[Fault]:
    """What keeps the mask of a scan from being written in the format that is asked for."""
    path = folder.mask(case)
    ending = scan_ending(path)
    try:
        if ending is not None:
            format_of(ending).check_geometry(path, geometry)
    except DataError as error:
        return [replace(fault, file=str(case.images[0])) for fault in error.faults]
    return []


def _of_other_kind(case: Case, geometry: Geometry | None, plan: Plan) -> list[Fault]:
    """What is wrong with a picture where scans are wanted, with a scan where pictures are, and without a size."""
    if geometry is None or geometry.unit == plan.unit:
        return []
    wanted = "scans, with a place and lengths in mm" if plan.pictures is None else "pictures (PNG, TIFF, JPEG)"
    problem, remedy = f"the model was trained on {wanted}", "Give it such files, or another model"
    if plan.unit == "um" and geometry.unit == PIXEL:
        problem = "does not say how large its pixels are, as the pictures did that the model was trained on"
        remedy = "Save its size with it, such as by Fiji (Image > Properties, then as TIFF)"
    return [Fault(str(case.images[0]), problem, remedy)]


def _remove_earlier(case: Case, folder: PredictionFolder) -> list[str]:
    """Remove what an earlier call wrote for a scan that is left out; the names of the files."""
    found = [path for path in (folder.mask(case), folder.probabilities(case), folder.overlay(case)) if is_ours(path)]
    for path in found:
        _remove(path)
    return [path.name for path in found]


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(path, error) from None


def _report_failed(
    folder: PredictionFolder, failed: Mapping[str, Sequence[Fault]], removed: Mapping[str, Sequence[str]]
) -> None:
    """Write `failed.json` and raise, where something failed."""
    path = folder.failed
    if not failed:
        return
    rows = [
        {
            "case": name,
            "file": fault.file,
            "problem": fault.problem,
            "remedy": fault.remedy,
            "removed": list(removed[name]),
        }
        for name, faults in failed.items()
        for fault in faults
    ]
    write_json(path, rows)
    raise DataError(
        [fault for faults in failed.values() for fault in faults],
        heading=f"no mask for {len(failed)} of the scans, see {path}:",
    )

"""fewscan predict: scans in, masks on their own grid out."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fewscan.data.cases import Case, collect_cases, notes_on_folders
from fewscan.data.check import check_images
from fewscan.devices import choose_device
from fewscan.engine.machine_errors import explained_memory
from fewscan.errors import DataError, Fault, WriteError
from fewscan.inference.model import load_model
from fewscan.inference.predict import CUT_OFF, augmentation_views, predict_cases
from fewscan.inference.volumes import Together, VolumeObserver
from fewscan.io.files import AnyPath, check_name, make_folder, write_json
from fewscan.io.scans import is_ours
from fewscan.io.tables import write_table
from fewscan.run_folder import PredictionFolder, RunFolder
from fewscan.runs.lock import alone
from fewscan.runs.quality import Judge
from fewscan.runs.results import Predictions
from fewscan.terminal.console import Reporter
from fewscan.words import abbreviate


def predict(
    run: AnyPath,
    inputs: Sequence[AnyPath],
    *,
    output: AnyPath,
    tta: bool = False,
    save_probabilities: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
    quality: bool = True,
) -> Predictions:
    """Segment scans; those that are faulty are left out and listed in `failed.json`, the others are finished.

    `volumes.csv` has the volume of every class, or region, in each of the masks, in ml.

    A mask that an earlier call wrote for a scan that is left out now is removed, so that no mask is of another scan; so
    are the tables of an earlier call, before anything is predicted. Files that no `predict` wrote are never touched.

    Args:
        run: folder of a training run, or any folder with model.safetensors and model.json.
        inputs: files, or folders of files; channels are named CASE_0000, CASE_0001, ...
        output: folder for the masks; names are kept, without the channel number.
        tta: average over rotations (and flips, where training had them).
        save_probabilities: also write CASE.npz.
        device: auto, cpu, cuda, ...
        reporter: where to show progress.
        quality: also write `quality.csv`, see docs/quality.md.

    Returns:
        The masks.

    Raises:
        DataError: scans were left out (every fault at once, after the others were predicted), the inputs make no
            cases, a mask would be written over a scan or over a file that `predict` did not write, another call is at
            work in the folder, or a file cannot be written (WriteError).
        ConfigError: there is no such device.
        FewscanError: the memory is not enough.
    """
    reporter = reporter or Reporter(quiet=True)
    where = choose_device(device)
    network, card = load_model(Path(run), where)
    paths = [Path(path) for path in inputs]
    cases = collect_cases(paths, len(card.plan.channel_names))
    folder = PredictionFolder(Path(output))
    _check_apart(cases, folder, save_probabilities)
    for note in notes_on_folders(paths):
        reporter.say(str(note))
    make_folder(folder.path)
    with alone(folder.lock, "another prediction"):
        # Stopped half-way, this call leaves no table beside its masks that an earlier one made of others.
        for table in (folder.quality, folder.volumes, folder.failed):
            _remove(table)
        failed = _find_faults(cases, reporter)
        cut_off: list[str] = []

        def leave_out(case: Case, error: DataError) -> None:
            failed[case.name] = error.faults

        sound = [case for case in cases if case.name not in failed]
        views = augmentation_views(card.flips, card.plan.size) if tta else []
        judge = Judge(RunFolder(Path(run)), card, where, tta, reporter) if quality else None
        volumes = VolumeObserver(card.plan.classes)
        observer = Together([volumes, judge.observer]) if judge is not None else volumes
        written, made = [], []
        with reporter.bar("predicting", len(sound)) as step:
            job = predict_cases(
                network,
                card.plan,
                sound,
                folder.path,
                where,
                views=views,
                save_probabilities=save_probabilities,
                progress=step,
                on_refusal=leave_out,
                observer=observer,
                on_cut_off=lambda case: cut_off.append(case.name),
            )
            with explained_memory("Predict without --tta, or on another --device."):
                for case, path in job:
                    written.append(path)
                    made.append(case.name)
                    if judge is not None:
                        judge.add(case)
        reporter.say(f"{len(written)} masks written to {folder}")
        if cut_off:
            reporter.say(f"{CUT_OFF}: {abbreviate(cut_off)}")
        write_table(folder.volumes, ("case", "class", "ml"), _volume_rows(volumes, made))
        if judge is not None:
            judge.write(folder)
        removed = {case.name: _remove_earlier(case, folder) for case in cases if case.name in failed}
        _report_failed(folder, failed, removed)
    return Predictions(folder.path, tuple(written))


def _volume_rows(volumes: VolumeObserver, made: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for case in made:
        for name, millilitres in volumes.millilitres[case].items():
            yield case, name, f"{millilitres:.6g}"


def _find_faults(cases: Sequence[Case], reporter: Reporter) -> dict[str, Sequence[Fault]]:
    """What is wrong with scans that cannot be predicted, by case; says what is worth a look at the others."""
    failed: dict[str, Sequence[Fault]] = {}
    notes: dict[tuple[str, str], list[str]] = defaultdict(list)
    with reporter.bar("checking scans", len(cases)) as step:
        for case in cases:
            faults = check_images(case.images)
            fatal = [fault for fault in faults if fault.fatal]
            if fatal:
                failed[case.name] = fatal
            else:
                for fault in faults:
                    notes[fault.problem, fault.remedy].append(Path(fault.file).name)
            step()
    for (problem, remedy), files in notes.items():
        reporter.say(f"worth a look: {problem}: {abbreviate(files)}. {remedy}.")
    return failed


def _check_apart(cases: Sequence[Case], folder: PredictionFolder, save_probabilities: bool) -> None:
    """Refuse to write masks over scans, labels, masks that somebody made, or whatever else is not fewscan's own."""
    check_name(folder.path)
    # Not Path.resolve, which raises where a link leads in a circle; that is a fault of one scan.
    scans = {os.path.realpath(path) for case in cases for path in case.images}
    for case in cases:
        path = folder.mask(case)
        if os.path.realpath(path) in scans:
            raise DataError(f"{path}: is a scan, its mask would be written over it. Choose another output folder.")
    paths = [folder.mask(case) for case in cases]
    if save_probabilities:
        paths += [folder.probabilities(case) for case in cases]
    foreign = [path.name for path in paths if os.path.lexists(path) and not is_ours(path)]
    if foreign:
        raise DataError(
            f"{folder}: files there would be written over that no `fewscan predict` wrote, or one of an older version: "
            f"{abbreviate(foreign)}. Choose another output folder, or move them away."
        )


def _remove_earlier(case: Case, folder: PredictionFolder) -> list[str]:
    """Remove what an earlier call wrote for a scan that is left out; the names of the files."""
    found = [path for path in (folder.mask(case), folder.probabilities(case)) if is_ours(path)]
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
    lines = [str(fault) for faults in failed.values() for fault in faults]
    raise DataError("\n".join([f"no mask for {len(failed)} of the scans, see {path}:", *lines]))

"""fewscan predict: scans in, masks on their own grid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from fewscan.data.cases import collect_cases, notes_on_folders, unfolded
from fewscan.devices import choose_device, list_devices
from fewscan.io.files import AnyPath, make_folder
from fewscan.run_folder import PROGRESS, PredictionFolder
from fewscan.runs.meaning import ending_of, meaning_of
from fewscan.runs.predicting import Choices, Predicting, Session, made_of, unfetched
from fewscan.runs.prediction import (
    Procedure,
    alone_or_shared,
    check_output,
    files_of_records,
    may_be_written_over,
    predict_into,
)
from fewscan.runs.results import Predictions
from fewscan.terminal.console import Reporter
from fewscan.work.choice import SHARED, choose_for_model, devices_for
from fewscan.work.serial import Serial
from fewscan.work.staging import Staging


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
    others: Sequence[AnyPath] = (),
    postprocess: bool = True,
    format: str | None = None,  # noqa: A002
    go_on: bool = False,
    recursive: bool = False,
    executor: str = "auto",
    workers: int | None = None,
) -> Predictions:
    """Segment scans; those that are faulty are left out and listed in `failed.json`, the others are finished.

    `volumes.csv` has the volume of every class, or region, in each of the masks, in ml. Of a data set whose objects are
    told apart, `objects.csv` and `pictures.csv` have measures of them instead, and `overlays/` has their outlines.
    `itksnap_labels.txt` has names and colours of classes for ITK-SNAP.

    A mask that an earlier call wrote for a scan that is left out now is removed, so that no mask is of another scan; so
    are masks of these scans in another format, and the tables of an earlier call, before anything is predicted. Files
    that no `predict` wrote are never touched.

    Args:
        run: Folder of a training run, or any folder with model.safetensors and model.json. It, the inputs, the output
            and the others may each be a URL, such as "s3://bucket/run", which takes `fewscan[s3]`.
        inputs: Scans to segment, folders of scans, or a data set, all of whose images are meant; channels are named
            CASE_0000, CASE_0001, ...
        output: Folder for the masks and their tables; masks are named as the scans, without the channel number.
        tta: Whether predictions are averaged over small rotations, and over flips if training had them.
        save_probabilities: Whether `CASE.npz` is written too: `probabilities` (k, *mask's axes) float16.
        device: Device to compute on: auto (every NVIDIA GPU, else the CPU), cpu, cuda, cuda:1, mps, ..., or several
            with commas between.
        reporter: Reporter that shows progress and decisions; None: nothing is shown.
        others: Folders of further runs of the same plan, whose probabilities are averaged with those of `run`, a run of
            folds counting as many networks as it has; then no Dice is estimated.
        postprocess: Whether masks are decoded and post-processed as was chosen for the run on its held-out cases.
        format: Format of the masks: nifti, nrrd (with names and colours of segments, as 3D Slicer has them), seg
            or rtstruct (segmentations or contours of DICOM series); None: that of each scan, of DICOM series NIfTI.
        quality: Whether `quality.csv` is written, estimated Dice and cases to look at; see docs/quality.md.
        go_on: Whether masks stay that an earlier call of the same model and options has written of files that have
            not changed since, whether it was stopped or not.
        recursive: Whether folders below are looked through too; the name of a mask begins with those of its folders,
            two underscores between.
        executor: Executor of the work: auto (this process, or one for each GPU), serial, processes, shared (the same
            call on many machines that see the folders), ray or ray:ADDRESS.
        workers: Number of processes, from 1, each with a model of its own; None: as the executor says.

    Returns:
        The paths of the masks.

    Raises:
        DataError: Scans were left out (every fault at once, after the others were predicted), the inputs make no cases,
            the runs are of different plans, a mask would be written over a scan or over a file that `predict` did not
            write, or another call is at work in the folder.
        WriteError: The disk is full, read-only or gone.
        ConfigError: The device, the format or the executor does not exist, the format keeps named classes alone, or
            what is to go on was begun with other options.
        FewscanError: The memory is not enough.

    Examples:
        >>> import fewscan
        >>> masks = fewscan.predict("RUN", ["DATASET/imagesTr/case_03_0000.nii.gz"], output="MASKS")
        >>> [mask.name for mask in masks]
        ['case_03.nii.gz']
    """
    with Staging.of(reporter or Reporter(quiet=True), executor) as staging:
        choices = Choices(
            run=staging.whole(run),
            others=tuple(map(staging.whole, others)),
            tta=tta,
            save_probabilities=save_probabilities,
            postprocess=postprocess,
            quality=quality,
        )
        paths = [staging.names(path) for path in inputs]
        destination = staging.output(output, PROGRESS)
        reporter, executor = staging.reporter, staging.executor_name
        devices = list_devices(device)
        who = choose_for_model(executor, workers, devices)
        # Of several processes each has a model of its own, and this one needs no room for another on a GPU.
        is_here = isinstance(who, Serial)
        session = Session.of(choices, choose_device(devices[0] if is_here else "cpu"), reporter)
        folder = PredictionFolder(destination, ending_of(format, meaning_of(session.card)))
        _say_how(session, reporter)
        cases = collect_cases(paths, session.card.plan.reading, recursive)
        if staging.writes_elsewhere:
            folder = replace(folder, own=files_of_records(folder))
            staging.look_into(may_be_written_over(cases, folder))
        check_output(cases, folder, save_probabilities)
        for note in notes_on_folders(unfolded(paths)):
            reporter.say(staging.told(str(note)))
        make_folder(folder.path)
        who = staging.executor(who, partial(made_of, folder), unfetched)
        procedure = Procedure(who, go_on, executor == SHARED, staging.push, staging.push_file)
        with alone_or_shared(folder, procedure.is_shared), staging.pushing():
            work = Predicting(choices, folder, devices_for(executor, devices), session if is_here else None)
            written = predict_into(work, cases, session, reporter, procedure)
        return Predictions(staging.there(written.folder), tuple(map(staging.there, written.masks)))


def _say_how(session: Session, reporter: Reporter) -> None:
    """Say what is done with probabilities and masks."""
    card = session.card
    if len(session.networks) > 1:
        reporter.say(f"the probabilities of {len(session.networks)} networks are averaged")
    if session.locator is not None:
        reporter.say("a first model points at the anatomy in each scan, and this one looks around it")
    if card.decoding:
        reporter.say(f"decoding: {card.task.decoding.describe()}")
    for step in card.postprocessing:
        reporter.say(f"post-processing: {step.describe(card.plan.class_names, card.plan.unit)}")

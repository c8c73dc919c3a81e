"""fewscan predict: scans in, masks on their own grid out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewscan.data.cases import collect_cases, notes_on_folders
from fewscan.devices import choose_device
from fewscan.inference.model import load_ensemble
from fewscan.io.files import AnyPath, make_folder
from fewscan.run_folder import PredictionFolder, RunFolder
from fewscan.runs.lock import alone
from fewscan.runs.meaning import ending_of, meaning_of
from fewscan.runs.prediction import check_output, predict_into
from fewscan.runs.quality import QualityAssessor
from fewscan.runs.results import Predictions
from fewscan.terminal.console import Reporter


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
) -> Predictions:
    """Segment scans; those that are faulty are left out and listed in `failed.json`, the others are finished.

    `volumes.csv` has the volume of every class, or region, in each of the masks, in ml. Of a data set whose objects are
    told apart, `objects.csv` and `pictures.csv` have measures of them instead, and `overlays/` has their outlines.

    A mask that an earlier call wrote for a scan that is left out now is removed, so that no mask is of another scan; so
    are masks of these scans in another format, and the tables of an earlier call, before anything is predicted. Files
    that no `predict` wrote are never touched.

    Args:
        run: Folder of a training run, or any folder with model.safetensors and model.json.
        inputs: Scans to segment, or folders of scans; channels are named CASE_0000, CASE_0001, ...
        output: Folder for the masks and their tables; masks are named as the scans, without the channel number.
        tta: Whether predictions are averaged over small rotations, and over flips if training had them.
        save_probabilities: Whether `CASE.npz` is written too: `probabilities` (k, *mask's axes) float16.
        device: Device to compute on: auto (an NVIDIA GPU, else the CPU), cpu, cuda, cuda:1, mps, ...
        reporter: Reporter that shows progress and decisions; None: nothing is shown.
        others: Folders of further runs of the same plan, whose probabilities are averaged with those of `run`, a run of
            folds counting as many networks as it has; then no Dice is estimated.
        postprocess: Whether masks are decoded and post-processed as was chosen for the run on its held-out cases.
        format: Format of the masks: nifti, nrrd (with names and colours of segments, as 3D Slicer has them), or seg
            (DICOM segmentations of DICOM series); None: that of each scan, of DICOM series NIfTI.
        quality: Whether `quality.csv` is written, estimated Dice and cases to look at; see docs/quality.md.

    Returns:
        The paths of the masks.

    Raises:
        DataError: Scans were left out (every fault at once, after the others were predicted), the inputs make no cases,
            the runs are of different plans, a mask would be written over a scan or over a file that `predict` did not
            write, or another call is at work in the folder.
        WriteError: The disk is full, read-only or gone.
        ConfigError: The device or the format does not exist, or the format keeps named classes alone.
        FewscanError: The memory is not enough.

    Examples:
        >>> import fewscan
        >>> masks = fewscan.predict("RUN", ["DATASET/imagesTr/case_03_0000.nii.gz"], output="MASKS")
        >>> [mask.name for mask in masks]
        ['case_03.nii.gz']
    """
    reporter = reporter or Reporter(quiet=True)
    where = choose_device(device)
    source = RunFolder(Path(run))
    further = [Path(other) for other in others]
    networks, card = load_ensemble([source.path, *further], where)
    folder = PredictionFolder(Path(output), ending_of(format, meaning_of(card)))
    if len(networks) > 1:
        reporter.say(f"the probabilities of {len(networks)} networks are averaged")
    if not postprocess:
        card = card.model_copy(update={"postprocessing": (), "decoding": {}})
    if card.decoding:
        reporter.say(f"decoding: {card.task.decoding.describe()}")
    for step in card.postprocessing:
        reporter.say(f"post-processing: {step.describe(card.plan.class_names, card.plan.unit)}")
    paths = [Path(path) for path in inputs]
    cases = collect_cases(paths, card.plan.reading)
    check_output(cases, folder, save_probabilities)
    for note in notes_on_folders(paths):
        reporter.say(str(note))
    make_folder(folder.path)
    with alone(folder.lock, "another prediction"):
        return predict_into(
            folder,
            cases,
            networks=networks,
            card=card,
            device=where,
            tta=tta,
            save_probabilities=save_probabilities,
            assessor=QualityAssessor(source, card, where, reporter, further) if quality else None,
            reporter=reporter,
        )

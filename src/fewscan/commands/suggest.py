"""fewscan suggest: the unlabelled patients whose labels would help most."""

from __future__ import annotations

from pathlib import Path

from fewscan.data.index import read_dataset
from fewscan.data.split import split_of_run
from fewscan.devices import choose_device, list_devices
from fewscan.errors import ConfigError, DataError
from fewscan.evaluation.selection import Suggestion
from fewscan.io.elsewhere import refuse_elsewhere
from fewscan.io.files import AnyPath, write_json, write_text
from fewscan.run_folder import RunFolder
from fewscan.runs.describing import Describer, Describing, describe_scans
from fewscan.runs.provenance import dataset_of
from fewscan.runs.suggestions import labelled_names, rank_patients
from fewscan.terminal.console import Reporter
from fewscan.work.choice import SHARED, choose_for_model, devices_for
from fewscan.work.serial import Serial


def suggest(
    run: AnyPath,
    dataset: AnyPath | None = None,
    *,
    count: int = 5,
    output: AnyPath | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
    executor: str = "auto",
    workers: int | None = None,
) -> list[Suggestion]:
    """Rank unlabelled training patients by how much their labels would help; writes `suggestions.json` into the run.

    Args:
        run: Folder of a finished training run.
        dataset: Folder of the data set that the run was trained on, with the same files; None: the one that the run
            names.
        count: Number of patients to name, from 1 up to those without a label.
        output: Path of a text file to write, as `--labelled-list` takes it, a name per line: the labelled patients,
            then the suggested ones; None: none is written.
        device: Device to compute on: auto (every NVIDIA GPU, else the CPU), cpu, cuda, cuda:1, mps, ..., or several
            with commas between.
        reporter: Reporter that shows progress and decisions; None: nothing is shown.
        executor: Executor of the work: auto (this process, or one for each GPU), serial, processes, ray or
            ray:ADDRESS.
        workers: Number of processes, from 1, each with a model of its own; None: as the executor says.

    Returns:
        The patients, best first.

    Raises:
        ConfigError: Fewer patients than `count` have no label, or the device or the executor does not exist.
        DataError: The run is not finished or has no labelled scan, or the data set is not the run's or not to be found.

    Examples:
        >>> import fewscan
        >>> sorted(suggestion.patient for suggestion in fewscan.suggest("RUN", count=3))
        ['case_02', 'case_04', 'case_05']
    """
    refuse_elsewhere(run, dataset, output)
    reporter = reporter or Reporter(quiet=True)
    folder = RunFolder(Path(run))
    if executor == SHARED:
        raise ConfigError(
            "--executor shared: the suggestions are one file, which one machine writes. Say processes, or ray:ADDRESS."
        )
    devices = list_devices(device)
    who = choose_for_model(executor, workers, devices)
    describer = Describer.of(folder.path, choose_device(devices[0])) if isinstance(who, Serial) else None
    root = Path(dataset) if dataset is not None else dataset_of(folder)
    split = split_of_run(folder.splits, read_dataset(root)).with_left_out()
    if not split.labelled:
        raise DataError.of(
            folder.splits,
            "no scan of the run is labelled, and patients are suggested that are unlike labelled ones",
            "Label one patient, such as the first of quality.csv of a prediction, train with it and ask again",
        )

    work = Describing(folder.path, devices_for(executor, devices), describer)
    described = describe_scans(work, split.train, reporter, who)
    suggestions = rank_patients(split, described, count, reporter)
    write_json(folder.suggestions, [suggestion._asdict() for suggestion in suggestions])
    if output is not None:
        names = [*labelled_names(split), *(suggestion.patient for suggestion in suggestions)]
        write_text(Path(output), "".join(f"{name}\n" for name in names))
    return suggestions

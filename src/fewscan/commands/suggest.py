"""fewscan suggest: the unlabelled patients whose labels would help most."""

from __future__ import annotations

from pathlib import Path

from fewscan.data.cases import Case
from fewscan.data.index import read_dataset
from fewscan.data.split import split_of_run
from fewscan.devices import choose_device
from fewscan.errors import DataError
from fewscan.evaluation.selection import Suggestion
from fewscan.inference.describe import describe_cases
from fewscan.inference.model import load_model
from fewscan.inference.predictor import Predictor
from fewscan.io.files import AnyPath, write_json, write_text
from fewscan.run_folder import RunFolder
from fewscan.runs.provenance import dataset_of
from fewscan.runs.suggestions import labelled_names, rank_patients
from fewscan.terminal.console import Reporter


def suggest(
    run: AnyPath,
    dataset: AnyPath | None = None,
    *,
    count: int = 5,
    output: AnyPath | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> list[Suggestion]:
    """Rank unlabelled training patients by how much their labels would help; writes `suggestions.json` into the run.

    Args:
        run: Folder of a finished training run.
        dataset: Folder of the data set that the run was trained on, with the same files; None: the one that the run
            names.
        count: Number of patients to name, from 1 up to those without a label.
        output: Path of a text file to write, as `--labelled-list` takes it, a name per line: the labelled patients,
            then the suggested ones; None: none is written.
        device: Device to compute on: auto (an NVIDIA GPU, else the CPU), cpu, cuda, cuda:1, mps, ...
        reporter: Reporter that shows progress and decisions; None: nothing is shown.

    Returns:
        The patients, best first.

    Raises:
        ConfigError: Fewer patients than `count` have no label, or the device does not exist.
        DataError: The run is not finished or has no labelled scan, or the data set is not the run's or not to be found.

    Examples:
        >>> import fewscan
        >>> sorted(suggestion.patient for suggestion in fewscan.suggest("RUN", count=3))
        ['case_02', 'case_04', 'case_05']
    """
    reporter = reporter or Reporter(quiet=True)
    folder = RunFolder(Path(run))
    where = choose_device(device)
    networks, card = load_model(folder.path, where)
    root = Path(dataset) if dataset is not None else dataset_of(folder)
    split = split_of_run(folder.splits, read_dataset(root)).with_left_out()
    if not split.labelled:
        raise DataError.of(
            folder.splits,
            "no scan of the run is labelled, and patients are suggested that are unlike labelled ones",
            "Label one patient, such as the first of quality.csv of a prediction, train with it and ask again",
        )

    def leave_out(case: Case, error: DataError) -> None:
        reporter.say(f"{case.name} is left out: {error}")

    with reporter.bar("describing training scans", len(split.train)) as step:
        described = describe_cases(Predictor(networks), card.plan, split.train, where, step, leave_out, card.task)
    suggestions = rank_patients(split, described, count, reporter)
    write_json(folder.suggestions, [suggestion._asdict() for suggestion in suggestions])
    if output is not None:
        names = [*labelled_names(split), *(suggestion.patient for suggestion in suggestions)]
        write_text(Path(output), "".join(f"{name}\n" for name in names))
    return suggestions

"""Masks of many scans in one folder: what it may hold already, what is left out, and the tables beside the masks."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewscan.data.cases import Case
from fewscan.data.survey import file_states
from fewscan.errors import ConfigError, DataError, Fault, WriteError
from fewscan.evaluation.quality_table import row_from_json
from fewscan.inference.model import WEIGHTS, ModelCard
from fewscan.inference.predict import CUT_OFF
from fewscan.io.files import check_name, make_folder, read_json, sha256_of, write_json, write_text
from fewscan.io.itksnap import label_descriptions
from fewscan.io.tables import write_table
from fewscan.run_folder import PredictionFolder, RunFolder
from fewscan.runs.lock import alone, refuse_held
from fewscan.runs.meaning import MASK_FORMATS, meaning_of
from fewscan.runs.predicting import Choices, Predicting, Session
from fewscan.runs.results import Predictions
from fewscan.runs.scoring import say_remarks
from fewscan.terminal.console import Reporter
from fewscan.version import VERSION
from fewscan.words import abbreviate, counted
from fewscan.work.base import Crash, Executor, Shard
from fewscan.work.leases import Leases
from fewscan.work.records import CRASH, Records, key_of, run_recorded
from fewscan.work.serial import Serial

SCANS_OF_A_SHARD = 16
MOST_OF_A_SHARD = 48
# Beside the records of a prediction: what they are made from, and who is making others.
FACTS, LEASES = "choices", "leases"


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
    foreign = [path.name for path in paths if os.path.lexists(path) and not folder.is_own(path)]
    if foreign:
        raise DataError.of(
            folder.path,
            "files there would be written over that no `fewscan predict` wrote, or one of an older version: "
            f"{abbreviate(foreign)}",
            "Choose another output folder, or move them away",
        )


@dataclass(frozen=True)
class Procedure:
    """How a prediction is made.

    Attributes:
        executor: Executor of the work.
        goes_on: Whether what an earlier call has done of it stays.
        is_shared: Whether other processes, which see the folder, do the same at the same time.
        before: Function that is called before the first scan is predicted, once what no longer counts is removed.
        on_record: Function that is called with the path of each record that is written.
    """

    executor: Executor = field(default_factory=Serial)
    goes_on: bool = False
    is_shared: bool = False
    before: Callable[[], None] | None = None
    on_record: Callable[[Path], None] | None = None


def predict_into(
    work: Predicting, cases: Sequence[Case], session: Session, reporter: Reporter, procedure: Procedure | None = None
) -> Predictions:
    """Write a mask for every scan that can be read, and the tables; what an earlier call left of the others goes.

    Args:
        work: Work that predicts scans, into a folder that is made, and locked for this process if it is not shared.
        cases: The scans, one per mask.
        session: Model, as this process has loaded it.
        reporter: Reporter that shows progress.
        procedure: How it is made; None: by this process, anew.

    Raises:
        ConfigError: What is to go on was begun with other choices.
        DataError: Scans were left out, every one with its faults; all others have their masks by then.
        WriteError: A file cannot be written or removed.
        FewscanError: The memory is not enough.
    """
    procedure = procedure or Procedure()
    folder, records = work.folder, Records(work.folder.progress, procedure.on_record)
    facts = facts_of(work.choices, session.card, folder)
    shards = shards_of(cases)
    keys = [key_of(facts, [[case.name, file_states(case)] for case in shard.items]) for shard in shards]
    _settle(records, folder, facts, keys, procedure)
    if not records.keys().issuperset(keys):
        # Stopped half-way, this call leaves no table beside its masks that an earlier one made of others.
        for path in (*folder.tables, folder.label_descriptions, folder.failed):
            _remove(path)
    _remove_other_formats(cases, folder)
    if procedure.before is not None:
        procedure.before()
    with (
        reporter.bar("predicting", len(cases)) as step,
        Leases(folder.progress / LEASES) if procedure.is_shared else nullcontext() as leases,
    ):
        done = run_recorded(procedure.executor, work, shards, keys, records, leases=leases, progress=step)
        found = {shard.number: told for shard, told in done}
    told = {
        case.name: record for shard in shards for case, record in zip(shard.items, found[shard.number], strict=True)
    }
    return _conclude(folder, cases, told, session, reporter)


def shards_of(cases: Sequence[Case]) -> list[Shard[Case]]:
    """Cut scans into shards by their names alone: of about 16 scans, and of 48 at most.

    A shard ends with a scan whose name's hash says so, so that a scan that is added or taken away changes one or two
    shards, and all others stay what they were. No batch of the network spans two.

    Args:
        cases: Scans in the order of their names.
    """
    shards: list[Shard[Case]] = []
    items: list[Case] = []
    for case in cases:
        items.append(case)
        is_last = hashlib.sha256(os.fsencode(case.name)).digest()[0] % SCANS_OF_A_SHARD == 0
        if is_last or len(items) == MOST_OF_A_SHARD:
            shards.append(Shard(len(shards), tuple(items)))
            items = []
    return [*shards, Shard(len(shards), tuple(items))] if items else shards


@contextmanager
def alone_or_shared(folder: PredictionFolder, is_shared: bool) -> Iterator[None]:
    """Keep others out of a prediction's folder, or all but those that share it.

    Args:
        folder: Folder that is there.
        is_shared: Whether others that share it are let in.

    Raises:
        DataError: Somebody is at work there who is not to be.
    """
    if is_shared:
        refuse_held(folder.lock, "another prediction")
        yield
        return
    with alone(folder.lock, "another prediction"):
        others = Leases(folder.progress / LEASES).others()
        if others:
            raise DataError.of(
                folder.path,
                f"a prediction that is shared is at work there ({abbreviate(others)})",
                "Join it with --executor shared, or wait for it",
            )
        yield


def facts_of(choices: Choices, card: ModelCard, folder: PredictionFolder) -> dict[str, Any]:
    """What masks come from beside the scans: two calls with the same facts write the same.

    Args:
        choices: Choices of the prediction.
        card: Description of the model.
        folder: Folder of the prediction.
    """
    runs = [RunFolder(path) for path in (choices.run, *choices.others)]
    files = [file for run in runs for part in run.parts for file in (part.weights, part.second_weights)]
    known = [runs[0].locator / WEIGHTS, *([runs[0].quality] if choices.quality else [])]
    return {
        "model": [sha256_of(path) for path in [*files, *known] if path.is_file()],
        "card": key_of(card.model_dump(mode="json")),
        "--tta": choices.tta,
        "--save-probabilities": choices.save_probabilities,
        "--postprocess": choices.postprocess,
        "--quality": choices.quality,
        "--format": folder.ending,
        "fewscan": VERSION,
    }


def _settle(
    records: Records, folder: PredictionFolder, facts: Mapping[str, Any], keys: Sequence[str], procedure: Procedure
) -> None:
    """Take away the records that do not count, and say what those to come are made from.

    Raises:
        ConfigError: What is to go on was begun with other choices.
    """
    begun = folder.progress / FACTS
    if not (procedure.goes_on or procedure.is_shared):
        records.keep_only(set())
    elif begun.is_file():
        _check_same(folder, read_json(begun), facts)
        if not procedure.is_shared:
            records.forget_crashes()
            records.keep_only(set(keys))
        for key in records.keys() & set(keys):
            if not all(_is_there(record, folder) for record in records.read(key)):
                records.forget(key)
    make_folder(folder.progress)
    write_json(begun, facts)


def _check_same(folder: PredictionFolder, begun: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    names = {"model": "the files of the model", "card": "model.json"}
    other = [names.get(name, f"{name} {begun.get(name)} instead of {facts[name]}") for name in facts]
    changed = [text for name, text in zip(facts, other, strict=True) if begun.get(name) != facts[name]]
    if changed:
        raise ConfigError(
            f"{folder}: what is there was made with other choices: {', '.join(changed)}. Predict with those, predict "
            "anew without --continue, or choose another folder."
        )


def _is_there(record: Mapping[str, Any], folder: PredictionFolder) -> bool:
    """Whether the mask that a record tells of still lies there; of a scan without one there is nothing to miss."""
    return "mask" not in record or (folder.path / record["mask"]).is_file()


def _conclude(
    folder: PredictionFolder,
    cases: Sequence[Case],
    told: Mapping[str, Mapping[str, Any]],
    session: Session,
    reporter: Reporter,
) -> Predictions:
    """Write the tables of all scans by their records, and say what is worth saying.

    Raises:
        DataError: Scans were left out.
    """
    made = {name: record for name, record in told.items() if "mask" in record}
    notes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in made.values():
        for file, problem, remedy in record["notes"]:
            notes[problem, remedy].append(Path(file).name)
    for (problem, remedy), files in notes.items():
        reporter.say(f"worth a look: {problem}: {abbreviate(files)}. {remedy}.")
    reporter.say(f"{counted(len(made), 'mask')} written to {folder}")
    say_remarks(session.networks, reporter)
    cut_off = [name for name, record in made.items() if record["cut_off"]]
    if cut_off:
        reporter.say(f"{CUT_OFF}: {abbreviate(cut_off)}")
    for table in session.card.task.tables(session.card.plan).tables([]):
        rows = (row for record in made.values() for row in record["tables"][table.name])
        write_table(folder.path / table.name, table.header, rows)
    meaning = meaning_of(session.card)
    if meaning is not None and session.card.plan.pictures is None:
        write_text(folder.label_descriptions, label_descriptions(meaning))
    if session.assessor is not None:
        session.assessor.write(folder, [row_from_json(record["quality"]) for record in made.values()])
    failed = {case.name: _faults(case, told[case.name]) for case in cases if case.name not in made}
    removed = {case.name: _remove_earlier(case, folder) for case in cases if case.name in failed}
    _report_failed(folder, failed, removed)
    return Predictions(folder.path, tuple(folder.path / record["mask"] for record in made.values()))


def _faults(case: Case, record: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with a scan that has no mask."""
    if CRASH in record:
        return [Crash(record[CRASH]).fault(case.images[0])]
    return [Fault(*fault) for fault in record["faults"]]


def may_be_written_over(cases: Sequence[Case], folder: PredictionFolder) -> Iterator[Path]:
    """Files that a prediction of scans writes or removes, in whatever format, but for those known to be its own."""
    for case in cases:
        masks = {PredictionFolder(folder.path, ending).mask(case) for ending in (*MASK_FORMATS.values(), None)}
        for path in (*masks, folder.probabilities(case), folder.overlay(case)):
            if path.relative_to(folder.path).as_posix() not in folder.own:
                yield path


def files_of_records(folder: PredictionFolder) -> frozenset[str]:
    """Names of the files that records of an earlier call tell of, relative to the folder."""
    records = Records(folder.progress)
    results = [result for found in map(records.read, records.keys()) for result in found]
    made = [result for result in results if isinstance(result, Mapping) and "mask" in result]
    beside = ("{}.npz", "overlays/{}.png")
    return frozenset(name for each in made for name in (each["mask"], *(form.format(each["case"]) for form in beside)))


def _remove_other_formats(cases: Sequence[Case], folder: PredictionFolder) -> None:
    """Remove masks of an earlier call in other formats: of two masks of a scan nobody would know which is meant."""
    # Listed once: so many files need not each be looked up four times.
    there = set(folder.path.iterdir()) - {folder.mask(case) for case in cases}
    others = [PredictionFolder(folder.path, ending) for ending in (*MASK_FORMATS.values(), None)]
    for path in there & {other.mask(case) for other in others for case in cases}:
        if folder.is_own(path):
            _remove(path)


def _remove_earlier(case: Case, folder: PredictionFolder) -> list[str]:
    """Remove what an earlier call wrote for a scan that is left out; the names of the files."""
    found = [
        path for path in (folder.mask(case), folder.probabilities(case), folder.overlay(case)) if folder.is_own(path)
    ]
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

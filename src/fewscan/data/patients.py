"""Which patient a case is of: by a table, or by a user's regular expression within a time limit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fewscan.data.names import remedy_of_unknown
from fewscan.errors import DataError, Fault
from fewscan.words import abbreviate

LONGEST_SECONDS = 5.0
NAME = '"patient_pattern"'
EXAMPLE = "such as ^(patient\\d+)"
TABLE = "patients.json"
# In a process of its own: some patterns take longer than the age of the world, and a thread cannot be ended.
SEARCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = map(re.compile(pattern).search, names)
json.dump([match[1] if match else None for match in found], sys.stdout)
"""


def match_patients(pattern: object, cases: Sequence[str]) -> dict[str, str]:
    """The patient of each case: what the pattern's one group finds in the name.

    Args:
        pattern: Regular expression of a user's file, searched for in every name.
        cases: Names of the cases.

    Raises:
        DataError: The pattern is no regular expression of one group, finds no patient in a name, or takes longer than 5
            s.
    """
    try:
        expression = re.compile(pattern)  # type: ignore[call-overload]
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        problem = f"{NAME} is not a regular expression: {error}"
        raise DataError.of("dataset.json", problem, f"Write one, {EXAMPLE}") from None
    if expression.groups != 1:
        raise DataError.of("dataset.json", f"{NAME} must have one group, {EXAMPLE}", "Mend it")
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", SEARCH],
            input=json.dumps([pattern, list(cases)]),
            capture_output=True,
            text=True,
            check=True,
            timeout=LONGEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        problem = f"{NAME} takes longer than {LONGEST_SECONDS:g} s on the {len(cases)} names"
        remedy = f"Write it without a repeat inside a repeat, {EXAMPLE}"
        raise DataError.of("dataset.json", problem, remedy) from None
    patients = dict(zip(cases, json.loads(done.stdout), strict=True))
    without = [case for case, patient in patients.items() if not patient]
    if without:
        # A case that were its own patient could be trained on while another of the patient's is held out.
        found = f"finds no patient in {len(without)} of the {len(cases)} names: {abbreviate(without)}"
        raise DataError.of(
            "dataset.json", f"{NAME} {json.dumps(pattern)} {found}", f"Mend it, or write {TABLE} instead"
        )
    return patients


def patients_of_table(table: Any, cases: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The patient of each case by patients.json; a case that it does not list is its own patient.

    Args:
        table: Content of the file.
        cases: Names of the cases.

    Returns:
        The patients, and notes: which cases are not listed.

    Raises:
        DataError: The table is no object of texts, names cases that do not exist or lists none; every fault at once.
    """
    if not isinstance(table, Mapping):
        raise DataError.of(TABLE, "must hold an object", "Write it as {case: patient}")
    faults = [*_misfits(table, cases), *_wrong_values(table)]
    if faults:
        raise DataError(faults)
    alone = [case for case in cases if case not in table]
    note = f"{TABLE} does not list {len(alone)} of the {len(cases)} cases, each is its own patient: {abbreviate(alone)}"
    return {case: str(table.get(case, case)).strip() for case in cases}, (note,) if alone else ()


def _misfits(table: Mapping[str, Any], cases: Sequence[str]) -> list[Fault]:
    unknown = sorted(set(table) - set(cases))
    faults = []
    if cases and not set(cases) & set(table):
        faults.append(
            Fault(TABLE, f"lists none of the {len(cases)} cases, such as {abbreviate(cases)}", "Add their patients")
        )
    if unknown:
        faults.append(
            Fault(
                TABLE,
                f"names cases that do not exist: {abbreviate(unknown)}",
                remedy_of_unknown(unknown[0], cases),
            )
        )
    return faults


def _wrong_values(table: Mapping[str, Any]) -> list[Fault]:
    wrong = [f"{case}: {json.dumps(patient)}" for case, patient in table.items() if not _is_name(patient)]
    problem = f"patients that are no names: {abbreviate(wrong)}"
    return [Fault(TABLE, problem, "Write a text or a whole number")] if wrong else []


def _is_name(patient: Any) -> bool:
    is_number = isinstance(patient, int) and not isinstance(patient, bool)
    return is_number or (isinstance(patient, str) and bool(patient.strip()))

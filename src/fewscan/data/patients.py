"""Which patient a case is of, and of which site: by a table, or by a user's regular expression within a time limit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fewscan.data.names import remedy_of_unknown
from fewscan.errors import DataError, Fault
from fewscan.words import abbreviate

LONGEST_SECONDS = 5.0


class Grouping(NamedTuple):
    """What cases are put together by.

    Attributes:
        word: Name of what a group is.
        pattern: Key in dataset.json of the regular expression that finds it in names of cases.
        example: Words that show such an expression.
        table: Name of the file that lists it.
    """

    word: str
    pattern: str
    example: str
    table: str


PATIENTS = Grouping("patient", "patient_pattern", "such as ^(patient\\d+)", "patients.json")
SITES = Grouping("site", "site_pattern", "such as ^([a-z]+)_", "sites.json")
# In a process of its own: some patterns take longer than the age of the world, and a thread cannot be ended.
SEARCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = map(re.compile(pattern).search, names)
json.dump([match[1] if match else None for match in found], sys.stdout)
"""


def match_names(pattern: object, cases: Sequence[str], grouping: Grouping = PATIENTS) -> dict[str, str]:
    """The patient, or the site, of each case: what the pattern's one group finds in the name.

    Args:
        pattern: Regular expression of a user's file, searched for in every name.
        cases: Names of the cases.
        grouping: What is looked for.

    Raises:
        DataError: The pattern is no regular expression of one group, finds nothing in a name, or takes longer than 5 s.
    """
    name = f'"{grouping.pattern}"'
    try:
        expression = re.compile(pattern)  # type: ignore[call-overload]
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        problem = f"{name} is not a regular expression: {error}"
        raise DataError.of("dataset.json", problem, f"Write one, {grouping.example}") from None
    if expression.groups != 1:
        raise DataError.of("dataset.json", f"{name} must have one group, {grouping.example}", "Mend it")
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
        problem = f"{name} takes longer than {LONGEST_SECONDS:g} s on the {len(cases)} names"
        remedy = f"Write it without a repeat inside a repeat, {grouping.example}"
        raise DataError.of("dataset.json", problem, remedy) from None
    groups = dict(zip(cases, json.loads(done.stdout), strict=True))
    without = [case for case, group in groups.items() if not group]
    if without:
        # A case that were its own patient could be trained on while another of the patient's is held out.
        found = f"finds no {grouping.word} in {len(without)} of the {len(cases)} names: {abbreviate(without)}"
        raise DataError.of(
            "dataset.json", f"{name} {json.dumps(pattern)} {found}", f"Mend it, or write {grouping.table} instead"
        )
    return groups


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
        raise DataError.of(PATIENTS.table, "must hold an object", "Write it as {case: patient}")
    faults = [*_misfits(table, cases), *_wrong_values(table, PATIENTS)]
    if faults:
        raise DataError(faults)
    alone = [case for case in cases if case not in table]
    unlisted = f"{PATIENTS.table} does not list {len(alone)} of the {len(cases)} cases"
    note = f"{unlisted}, each is its own patient: {abbreviate(alone)}"
    return {case: str(table.get(case, case)).strip() for case in cases}, (note,) if alone else ()


def sites_of_table(table: Any, patients: Mapping[str, str]) -> dict[str, str]:
    """The site of each case by sites.json, which lists every patient or every case.

    Args:
        table: Content of the file.
        patients: Patient of each case, by the case's name.

    Raises:
        DataError: The table is no object of texts, names what is neither a patient nor a case, or leaves a case out;
            every fault at once.

    >>> sites_of_table({"p1": "here", "p2": "there"}, {"p1_ED": "p1", "p1_ES": "p1", "p2_ED": "p2"})
    {'p1_ED': 'here', 'p1_ES': 'here', 'p2_ED': 'there'}
    """
    if not isinstance(table, Mapping):
        raise DataError.of(SITES.table, "must hold an object", "Write it as {patient: site}")
    known = {*patients, *patients.values()}
    unknown = sorted(set(table) - known)
    without = [case for case, patient in patients.items() if case not in table and patient not in table]
    faults = _wrong_values(table, SITES)
    if unknown:
        problem = f"names what is neither a patient nor a case: {abbreviate(unknown)}"
        faults.append(Fault(SITES.table, problem, remedy_of_unknown(unknown[0], known)))
    if without:
        problem = f"has no site for {len(without)} of the {len(patients)} cases: {abbreviate(without)}"
        faults.append(Fault(SITES.table, problem, "Add their patients"))
    if faults:
        raise DataError(faults)
    return {case: str(table.get(case, table.get(patient))).strip() for case, patient in patients.items()}


def check_one_site(sites: Mapping[str, str], patients: Mapping[str, str]) -> None:
    """Refuse a patient whose cases are of several sites.

    Args:
        sites: Site of each case.
        patients: Patient of each case.

    Raises:
        DataError: There is such a patient; all are named.
    """
    found: dict[str, set[str]] = {}
    for case, site in sites.items():
        found.setdefault(patients[case], set()).add(site)
    apart = [f"{patient}: {', '.join(sorted(own))}" for patient, own in found.items() if len(own) > 1]
    if apart:
        problem = f"patients of several sites: {abbreviate(apart)}"
        raise DataError.of(SITES.table, problem, f'Mend it, or "{SITES.pattern}", so that each is of one')


def _misfits(table: Mapping[str, Any], cases: Sequence[str]) -> list[Fault]:
    unknown = sorted(set(table) - set(cases))
    faults = []
    if cases and not set(cases) & set(table):
        faults.append(
            Fault(
                PATIENTS.table,
                f"lists none of the {len(cases)} cases, such as {abbreviate(cases)}",
                "Add their patients",
            )
        )
    if unknown:
        faults.append(
            Fault(
                PATIENTS.table,
                f"names cases that do not exist: {abbreviate(unknown)}",
                remedy_of_unknown(unknown[0], cases),
            )
        )
    return faults


def _wrong_values(table: Mapping[str, Any], grouping: Grouping) -> list[Fault]:
    wrong = [f"{case}: {json.dumps(group)}" for case, group in table.items() if not _is_name(group)]
    problem = f"{grouping.word}s that are no names: {abbreviate(wrong)}"
    return [Fault(grouping.table, problem, "Write a text or a whole number")] if wrong else []


def _is_name(patient: Any) -> bool:
    is_number = isinstance(patient, int) and not isinstance(patient, bool)
    return is_number or (isinstance(patient, str) and bool(patient.strip()))

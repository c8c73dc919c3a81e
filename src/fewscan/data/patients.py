"""Which patient a case is of, by a user's regular expression, within a time limit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from fewscan.types import DataError

LONGEST_SECONDS = 5.0
NAME = 'dataset.json: "patient_pattern"'
# In a process of its own: some patterns take longer than the age of the world, and a thread cannot be ended.
SEARCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = map(re.compile(pattern).search, names)
json.dump([match[1] if match else None for match in found], sys.stdout)
"""


def match_patients(pattern: object, cases: Sequence[str]) -> dict[str, str]:
    """The patient of each case: what the pattern's one group finds in the name, else the name.

    Args:
        pattern: of a user's file; searched for in every name.
        cases: names.

    Raises:
        DataError: it is no regular expression of one group, or takes longer than 5 s.
    """
    try:
        expression = re.compile(pattern)  # type: ignore[call-overload]
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{NAME} is not a regular expression: {error}.") from None
    if expression.groups != 1:
        raise DataError(f"{NAME} must have one group, such as ^(patient\\d+).")
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
        raise DataError(
            f"{NAME} takes longer than {LONGEST_SECONDS:g} s on the {len(cases)} names. "
            "Write it without a repeat inside a repeat, such as ^(patient\\d+)."
        ) from None
    return {case: found or case for case, found in zip(cases, json.loads(done.stdout), strict=True)}

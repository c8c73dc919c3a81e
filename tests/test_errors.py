from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fewscan.errors import DamagedError, DataError, Fault, WriteError


def test_the_text_of_an_error_has_a_line_per_fault() -> None:
    error = DataError([Fault("a.mha", "the file is empty", "Copy it again"), Fault("b.mha", "is missing", "Add it")])
    assert str(error) == "a.mha: the file is empty. Copy it again.\nb.mha: is missing. Add it."


def test_a_heading_is_a_line_of_the_text_and_no_fault() -> None:
    error = DataError([Fault("a.mha", "the file is empty", "Copy it again")], heading="no mask for 1 of the scans:")
    assert str(error) == "no mask for 1 of the scans:\na.mha: the file is empty. Copy it again."
    assert [fault.file for fault in error.faults] == ["a.mha"]


def test_a_text_makes_no_error_since_it_would_have_to_be_cut() -> None:
    with pytest.raises(TypeError, match="made of faults"):
        DataError("a.mha: the file is empty. Copy it again.")  # type: ignore[arg-type]


def test_what_is_wrong_comes_back_as_it_was_told_whatever_stops_and_colons_it_has() -> None:
    error = DataError.of(Path("C: M. biceps.nii"), 'has "M. biceps": twice', "Name it M. biceps brachii")
    assert error.faults == (Fault("C: M. biceps.nii", 'has "M. biceps": twice', "Name it M. biceps brachii"),)


def test_a_remedy_that_ends_in_a_question_gets_no_stop() -> None:
    assert str(DataError.of("splits.json", "names pat1", "Mend it. Did you mean pat01?")).endswith("pat01?")


@pytest.mark.parametrize(
    "error", [WriteError(Path("a.nii"), OSError(errno.ENOSPC, "No space left on device")), DamagedError(Path("a"), "x")]
)
def test_errors_of_one_file_say_which_what_and_what_to_do_as_attributes(error: WriteError | DamagedError) -> None:
    assert error.faults == (Fault(error.file, error.problem, error.remedy),)
    assert error.file in str(error)

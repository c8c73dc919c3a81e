"""How the files of a scan are found among others."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewscan.data.cases import collect_cases
from fewscan.data.reading import Reading
from fewscan.errors import DataError
from support.dicom import Made


def test_inputs_that_make_no_cases_are_refused_together(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file or folder"):
        collect_cases([tmp_path / "missing"], Reading(1))
    with pytest.raises(DataError, match="no scans there"):
        collect_cases([tmp_path], Reading(1))
    for name in ("a_0000.nii.gz", "b_0001.nii.gz", "c.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(DataError) as error:
        collect_cases([tmp_path], Reading(2))
    assert len(str(error.value).splitlines()) == 3
    (tmp_path / "c_0000.nii.gz").touch()
    with pytest.raises(DataError, match=r"the name of .* again"):
        collect_cases([tmp_path], Reading(1))


@pytest.mark.parametrize(
    ("names", "channels", "advice"),
    [
        (("case_0001", "case_0002"), 1, "case_0001_0000 and case_0002_0000"),
        (("case_0000", "case_0001"), 1, "case_0001_0000;"),
        (("case_0000", "case_0001", "case_0002"), 2, "case_0002_0000 to case_0002_0001;"),
        (("patient_2019",), 1, "patient_2019_0000;"),
    ],
)
def test_numbers_that_are_no_channels_may_be_the_scans_own(
    tmp_path: Path, names: tuple[str, ...], channels: int, advice: str
) -> None:
    for name in names:
        (tmp_path / f"{name}.nii.gz").touch()
    with pytest.raises(DataError, match=r"Where the number is the scan's own, add the channel's: ") as error:
        collect_cases([tmp_path], Reading(channels))
    assert advice in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_series_in_nested_folders_are_cases_by_the_names_of_their_folders(tmp_path: Path) -> None:
    for name in ("anna/t2", "bert/2019/t1"):
        Made().write(tmp_path / "archive" / name)
    (tmp_path / "archive/empty").mkdir()
    (tmp_path / "archive/again").symlink_to(tmp_path / "archive")
    cases = collect_cases([tmp_path / "archive"], Reading(1))
    assert [(case.name, case.images[0].parent.name) for case in cases] == [("t1", "2019"), ("t2", "anna")]
    # A series itself, and a channel of one.
    assert [case.name for case in collect_cases([tmp_path / "archive/anna/t2"], Reading(1))] == ["t2"]
    Made().write(tmp_path / "archive/carl/t2")
    with pytest.raises(DataError, match=r"the name of .*anna/t2 again"):
        collect_cases([tmp_path / "archive"], Reading(1))

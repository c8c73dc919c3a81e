"""What the texts of options mean, and that each says what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from fewscan.cli import app
from fewscan.cli.options import choose, read_names, split_commas, split_lengths, split_numbers


def test_lists_are_split_at_commas() -> None:
    assert split_commas(" action, ict,,") == ["action", "ict"]
    assert split_numbers("1, 3,7", "--labelled") == [1, 3, 7]
    assert split_lengths(["3,0.5", "1"], "--tolerance") == [3, 0.5, 1]


@pytest.mark.parametrize("text", ["1,x", "-1", "1.5", "1;2"])
def test_what_is_no_whole_number_is_refused_by_the_option_s_name(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="must be whole numbers with commas between") as refused:
        split_numbers(text, "--seeds")
    assert refused.value.param_hint == "--seeds"


def test_what_is_no_length_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match=r"wide.*must be lengths in mm, such as 1,2"):
        split_lengths(["1", "wide"], "--tolerance")


def test_a_choice_is_one_of_its_list() -> None:
    assert choose("skip", ("score", "skip"), "--missing") == "skip"
    with pytest.raises(typer.BadParameter, match="must be score or skip"):
        choose("Skip", ("score", "skip"), "--missing")


def test_names_are_the_lines_that_are_not_empty(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("case_00\n\n  case_01 \n", encoding="utf-8")
    assert read_names(tmp_path / "names.txt") == ["case_00", "case_01"]
    with pytest.raises(typer.BadParameter, match=r"none\.txt"):
        read_names(tmp_path / "none.txt")


def test_every_command_and_option_is_described_by_a_phrase_that_stands_alone() -> None:
    group: Any = typer.main.get_command(app)
    assert len(group.commands) == 12
    for name, command in group.commands.items():
        assert command.help[0].isupper(), name
        described = [parameter for parameter in command.params if parameter.name != "help"]
        assert described
        for parameter in described:
            words = parameter.help.split()
            assert words[0][0].isupper(), (name, parameter.name)
            assert words[0] not in ("Of", "That", "Those", "It"), (name, parameter.name)
            assert len(words) > 2, (name, parameter.name)
            assert parameter.help.endswith("."), (name, parameter.name)

import pytest

from fewscan.durations import parse_duration, say_duration, write_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45m", 2700),
        ("1h30m", 5400),
        ("90s", 90),
        ("2h", 7200),
        ("1h0m5s", 3605),
        (" 1h 30m ", 5400),
        ("0.5h", 1800),
        ("2.5m", 150),
    ],
)
def test_a_written_length_of_time_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "45", "45 minutes", "m", "30m1h", "1h1h", "-5m", "0m", "0h0s", "1e3s", "infm", "nanh", "1:30"]
)
def test_what_is_no_length_of_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no length of time: write it as 45m, 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize("seconds", [0.1, 1, 59.5, 119.9, 120, 121, 3599, 3600, 3601, 5400, 86_399, 360_000])
def test_a_length_is_written_so_that_it_is_read_as_no_less_and_hardly_more(seconds: float) -> None:
    read = parse_duration(write_duration(seconds))
    assert seconds <= read < seconds + (60 if seconds > 120 else 1)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "under 1 s"), (0.99, "under 1 s"), (1, "1 s"), (840, "14 min"), (5399, "90 min"), (5400, "1 h 30 min")],
)
def test_lengths_are_said_in_the_unit_that_people_count_in(seconds: float, said: str) -> None:
    assert say_duration(seconds) == said

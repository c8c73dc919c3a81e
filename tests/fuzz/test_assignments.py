"""Whatever is given to --set: a configuration, or a ConfigError."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewscan.config import Config, load_config
from fewscan.errors import ConfigError
from fuzz.mutations import mutated

PROFILE = settings.get_profile("fuzz")
KEYS = [
    "seed",
    "method",
    "plan.size",
    "network.channels",
    "optimiser.learning_rate",
    "training",
    "stages.global",
    "methods.action.queries",
]
ASSIGNMENTS = [
    "optimiser.learning_rate=0.02",
    "network.channels=[4, 8]",
    "methods.action={queries: 3}",
    "plan.view=stretch",
    "seed=!!python/object/apply:os.system ['true']",
    "seed=&a [*a, *a]",
    "logging.every=2024-13-45",
    "methods.action.pretraining.global.updates=0x10",
]
TEXTS = st.one_of(
    mutated([text.encode() for text in ASSIGNMENTS]).map(lambda raw: raw.decode("utf-8", "replace")),
    st.builds("{}={}".format, st.sampled_from(KEYS), st.text(max_size=20)),
    st.builds(
        "{}={}{}".format,
        st.sampled_from(KEYS),
        st.sampled_from(
            ["!!int ", "!!timestamp ", "!!binary ", "!!python/name:", "!!set ", "!!omap ", "? ", "<<: ", "&a "]
        ),
        st.text("0123456789[]{}:,-*&!a'\" ", max_size=12),
    ),
    st.text(max_size=30),
)


@PROFILE
@given(assignments=st.lists(TEXTS, min_size=1, max_size=3))
def test_any_assignment_makes_a_configuration_or_an_error_of_its_own(assignments: list[str]) -> None:
    try:
        config = load_config("quick", assignments)
    except ConfigError:
        return
    assert isinstance(config, Config)
    assert config.to_yaml()


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch /tmp/never']",
        "!!python/object:os.system {}",
        "!!python/name:os.system",
        "!!int '3'",
        "!own 3",
        "&a [*a]",
        "{<<: *x}",
    ],
)
def test_tags_and_references_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"--set seed=.*(tags|cannot be read)"):
        load_config("quick", [f"seed={value}"])


def test_a_tag_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(ConfigError, match="tags and references are not read"):
        load_config("quick", [f"seed=!!python/object/apply:os.mkdir ['{mark}']"])
    assert not mark.exists()


def test_references_that_grow_without_end_are_refused_at_once() -> None:
    bomb = "{a: &a [x, x], b: &b [*a, *a], c: &c [*b, *b], d: [" + ", ".join(["*c"] * 9) + "]}"
    with pytest.raises(ConfigError, match="tags and references are not read"):
        load_config("quick", [f"methods.action={bomb}"])


def test_depth_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_config("quick", ["seed=" + "[" * 20_000])

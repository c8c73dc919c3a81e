"""Slices, volumes or pictures: settings for each kind of plan that may be chosen, and the choice for the scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from fewscan.config import Config, read_settings
from fewscan.data.fingerprint import Fingerprint
from fewscan.data.plans.choice import choose_kind
from fewscan.data.plans.kinds import AUTO, FIRST_KIND
from fewscan.errors import ConfigError
from fewscan.registry import METHODS
from fewscan.run_folder import RunFolder
from fewscan.terminal.console import Reporter

Dims = Literal["auto", 2, 3]
KINDS: dict[int, tuple[str, ...]] = {2: ("slices", "pictures"), 3: ("volumes",)}
# Kinds that are for the same axes, of scans and of pictures: one takes the other's place.
OF_SCANS, OF_PICTURES = KINDS[2]


def load_choices(dims: Dims, load: Callable[[str], Config]) -> list[Config]:
    """Read and check the settings of every kind of plan that may be chosen, before any work is done.

    Args:
        dims: Axes of the network's input, or auto, which leaves it to the data.
        load: Function from a kind of plan to the settings.

    Returns:
        The settings, one for each kind; where a setting is of one kind alone, the other one is no choice.

    Raises:
        ConfigError: A setting is unknown or out of its range, or names another kind of plan than `dims`, or the method
            does not work on that kind.
    """
    if dims != "auto" and dims not in KINDS:
        raise ConfigError(f"dims={dims}: there are auto, 2 and 3. Choose one of them.")
    found: dict[str, Config] = {}
    faults = []
    for kind in (kind for axes, kinds in KINDS.items() if dims in ("auto", axes) for kind in kinds):
        try:
            config = load(kind)
            if dims != "auto":
                _check_dims(dims, config)
            check_axes(config)
        except ConfigError as error:
            faults.append(error)
        else:
            found[config.plan.kind] = config
    if not found:
        raise faults[0]
    return list(found.values())


def _check_dims(dims: int, config: Config) -> None:
    if config.plan.kind not in KINDS[dims]:
        raise ConfigError(
            f"dims={dims} is plan.kind={' or '.join(KINDS[dims])}, and plan.kind={config.plan.kind} was set. "
            "Give one of the two."
        )


def check_axes(config: Config) -> None:
    """Refuse slices or volumes for a method that does not work on them; plans from elsewhere tell their axes later.

    Args:
        config: Settings of a training.

    Raises:
        ConfigError: The method works on images of another number of axes.
    """
    works_on = METHODS.find(config.method).n_dims
    kind = FIRST_KIND if config.plan.kind == AUTO else config.plan.kind
    own = [axes for axes, kinds in KINDS.items() if kind in kinds]
    if own and own[0] not in works_on:
        remedy = " or ".join(f"--dims {axes} (--set plan.kind={KINDS[axes][0]})" for axes in works_on)
        raise ConfigError(
            f"The method {config.method} does not work on {kind}, which scans are cut into by "
            f"plan.kind={config.plan.kind}. Train with {remedy}."
        )


def settings_of_run(choices: Sequence[Config], run: RunFolder) -> Config:
    """Give the settings with the kind of plan that a run was started with; the first ones where there are none.

    Args:
        choices: Settings by `load_choices`.
        run: Folder of an unfinished or finished run.

    Raises:
        DataError: The run's settings cannot be read.
    """
    plan = read_settings(run.config).get("plan")
    kind = plan.get("kind") if isinstance(plan, dict) else None
    return next((config for config in choices if config.plan.kind == kind), choices[0])


def choose_settings(dims: Dims, choices: Sequence[Config], fingerprint: Fingerprint, reporter: Reporter) -> Config:
    """Choose the settings whose kind of plan suits a data set; where it was left to the data, say why.

    Args:
        dims: Axes of the network's input, or auto.
        choices: Settings by `load_choices`.
        fingerprint: Shapes and spacings of the training cases.
        reporter: Reporter that says the reason.
    """
    choice = choose_kind(fingerprint)
    unsuited = OF_SCANS if choice.kind == OF_PICTURES else OF_PICTURES
    suited = [config for config in choices if config.plan.kind != unsuited] or list(choices)
    chosen = next((config for config in suited if config.plan.kind == choice.kind), suited[0])
    if dims == "auto":
        reporter.say(_only_choice(chosen) if len(suited) == 1 and choice.kind != OF_PICTURES else choice.reason)
    return chosen


def _only_choice(config: Config) -> str:
    """Why there is no other kind of plan than that of these settings."""
    kind = config.plan.kind
    works_on = METHODS.find(config.method).n_dims
    if all(axes not in works_on for axes, kinds in KINDS.items() if kind not in kinds):
        return f"{kind}: the method {config.method} works on no other kind of plan, whatever the scans"
    return f"{kind}: settings of that kind of plan alone were given"

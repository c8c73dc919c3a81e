"""The tree of settings of a run: a recipe, changed by --set, checked as a whole, saved with the run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from fewscan.augment.policy import AugmentationSettings
from fewscan.data.index import SEMANTIC
from fewscan.data.plans.base import Plan
from fewscan.data.plans.kinds import PLAN_SETTINGS, AnyPlanSettings
from fewscan.devices import choose_precision
from fewscan.errors import ConfigError, DataError
from fewscan.io.files import read_text
from fewscan.methods.base import MethodSettings, TrainingSettings
from fewscan.networks.segmenter import NETWORK_SETTINGS, AnyNetworkSettings
from fewscan.optimiser import OptimiserSettings
from fewscan.registry import METHODS, NETWORKS, PLANS, TASKS, Registry
from fewscan.settings import Count, CountOrZero, NonNegative, PartSettings, Settings
from fewscan.words import nearest

DEEPEST_VALUE = 20
RECIPES = ("auto", "paper", "quick", "night")
METHOD_FROM_OUTSIDE = re.compile(r"methods\.(?P<name>[\w.]+:\w+)(?:\.|$)")
# What has taken the place of settings that older versions had, by their names or the beginnings of them.
RENAMED = {
    "stages": "is now training, and methods.action.pretraining or methods.action_pp.pretraining",
    "stages.global": "is now methods.action.pretraining.global or methods.action_pp.pretraining.global",
    "stages.global.updates": "is now methods.action.pretraining.global.updates, or that of methods.action_pp",
    "stages.global.labelled": "is gone: that stage takes no labelled images",
    "stages.global.unlabelled": "is now methods.action.pretraining.global.unlabelled, or that of methods.action_pp",
    "stages.local": "is now methods.action.pretraining.local or methods.action_pp.pretraining.local",
    "stages.local.updates": "is now methods.action.pretraining.local.updates, or that of methods.action_pp",
    "stages.local.labelled": "is now methods.action.pretraining.local.labelled, or that of methods.action_pp",
    "stages.local.unlabelled": "is now methods.action.pretraining.local.unlabelled, or that of methods.action_pp",
    "stages.anatomical": "is now training",
    "stages.anatomical.updates": "is now training.updates, which counts the updates of pre-training too",
    "stages.anatomical.labelled": "is now training.labelled",
    "stages.anatomical.unlabelled": "is now training.unlabelled",
}


# Sections whose settings are those of a registered part, which its `kind` names.
PARTS: dict[str, tuple[Registry, PartSettings]] = {
    "plan": (PLANS, PLAN_SETTINGS),
    "network": (NETWORKS, NETWORK_SETTINGS),
}


class LoggingSettings(Settings):
    """How often the run says how it is."""

    every: Count = Field(20, description="Updates between two lines of metrics.jsonl.")
    validate_every: CountOrZero = Field(
        500,
        description="Updates between two validations, which are at the network's resolution and for the curve alone; "
        "0: one at the end.",
    )
    tensorboard: bool = Field(False, description="Whether the log is written as TensorBoard events too.")


class CheckpointSettings(Settings):
    """How often the state of training is saved between the ends of stages: whichever comes first."""

    every: CountOrZero = Field(1000, description="Updates between two checkpoints; 0: none by count.")
    minutes: NonNegative = Field(10.0, description="Minutes between two checkpoints; 0: none by the clock.")


class ReportSettings(Settings):
    """The page that training ends with."""

    page: bool = Field(
        True, description="Whether training ends with report.html, which `fewscan report` writes at any time."
    )
    most_cases: Count = Field(
        60, description="Number of cases on the page, at most; those with the lowest Dice are taken."
    )


class ExportSettings(Settings):
    """What is done to the trained networks before they are saved."""

    clean_statistics: bool = Field(
        True,
        description="Whether the statistics of batch normalisation are estimated anew on unaugmented training "
        "slices before a network is saved; no: those that training left.",
    )
    postprocess: bool = Field(
        True,
        description="Whether post-processing is chosen on the held-out cases, and kept in the model where the mean "
        "Dice rises and that of no class falls; of objects, how they are found again in the probabilities.",
    )
    memory: CountOrZero = Field(
        0,
        description="Labelled patches that the run keeps at most, with their pixels, beside those that it was given of "
        "earlier sites, so that a method that continues it need not forget; 0: no pixel is kept.",
    )


class Config(Settings):
    """All settings of a training run; `resolved` decides what is left to the device and the plan."""

    method: str = Field(
        "action", description="Name of a registered method, or `package.module:Class` of one from outside."
    )
    seed: CountOrZero = Field(
        0, description="Seed, 0 or more, of initial weights, order of patches, augmentation and dropout."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Precision in which networks compute while they train; auto: bfloat16 where the device "
        "has instructions for it, else float32, decided once when the run starts.",
    )
    deterministic: bool = Field(
        False,
        description="Whether the same seed on the same machine gives the same weights on a GPU too, where "
        "that costs time; on the CPU it always does.",
    )
    plan: AnyPlanSettings = Field(default_factory=lambda: PLAN_SETTINGS.read({}))
    network: AnyNetworkSettings = Field(default_factory=lambda: NETWORK_SETTINGS.read({}))
    augmentation: AugmentationSettings = Field(default_factory=AugmentationSettings)
    optimiser: OptimiserSettings = Field(default_factory=OptimiserSettings)
    training: TrainingSettings
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    checkpoint: CheckpointSettings = Field(default_factory=CheckpointSettings)
    export: ExportSettings = Field(default_factory=ExportSettings)
    report: ReportSettings = Field(default_factory=ReportSettings)
    methods: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Settings of every method, by its name."
    )

    @model_validator(mode="after")
    def _methods_exist(self) -> Config:
        for name in self.methods:
            if name not in METHODS:
                known = METHODS.names()
                raise ValueError(
                    f"methods.{name}: there is no such method.{_hint(name, known)} There are {', '.join(known)}"
                )
        return self

    def resolved(self, plan: Plan, device: torch.device) -> Config:
        """The settings with everything decided that may be left to the device and the plan; those that a run saves.

        Args:
            plan: Plan of the data set, which says how large images and their voxels are, and whether scans lie turned.
            device: Device that training runs on.

        Raises:
            ConfigError: The device cannot compute in the precision that is set.
        """
        decided = {
            "precision": choose_precision(self.precision, device),
            "network": self.network.fitted(plan.size, plan.spacing_mm),
            "augmentation": self.augmentation.resolved(plan.turned),
        }
        return self.model_copy(update=decided)

    @property
    def is_resolved(self) -> bool:
        """Whether nothing is left to be decided."""
        return self.precision != "auto" and self.augmentation.spatial.turn is not None

    def method_settings(self) -> MethodSettings:
        """The settings of the chosen method, checked by its own class.

        Raises:
            ConfigError: A setting is unknown or out of its range.
        """
        return _method_settings(self.method, self.methods.get(self.method, {}))

    @property
    def most_unlabelled(self) -> int:
        """Unlabelled patches in a batch, at most, in whatever stage; stages' own are settings named `unlabelled`."""
        own = leaves(self.method_settings().model_dump(by_alias=True))
        batches = [value for name, value in own.items() if name.split(".")[-1] == "unlabelled"]
        return max(self.training.unlabelled, *batches, 0)

    def check_methods(self) -> None:
        """Check the sections of all methods, also of those that are not chosen, and the chosen one's with the rest.

        Raises:
            ConfigError: A setting is unknown or out of its range, or the chosen method's do not go with `training`.
        """
        for name, section in self.methods.items():
            _method_settings(name, section)
        try:
            self.method_settings().check_training(self.training)
        except ValueError as error:
            raise ConfigError(f"methods.{self.method}.{error}.") from None

    def to_yaml(self) -> str:
        """All settings, the chosen method's written out, as YAML."""
        resolved = self.model_dump(mode="json", by_alias=True)
        resolved["methods"] = {self.method: self.method_settings().model_dump(mode="json", by_alias=True)}
        return yaml.safe_dump(resolved, sort_keys=False)


def recipe_text(name: str) -> str:
    """The YAML of a recipe of the package.

    Raises:
        ConfigError: No recipe has this name.
    """
    if name not in RECIPES:
        raise ConfigError(f"There is no recipe named {name!r}. There are: {', '.join(RECIPES)}.")
    return (resources.files("fewscan") / "recipes" / f"{name}.yaml").read_text("utf-8")


def load_config(
    recipe: str,
    assignments: Sequence[str] = (),
    device_type: str = "cpu",
    plan_kind: str | None = None,
    task: str = SEMANTIC,
    **top: Any,
) -> Config:
    """Read a recipe, apply `key=value` assignments and top-level values, check everything at once.

    A recipe may name another one, `like`, which it then changes. It may have a section `devices` with changes for each
    type of device, and a section `plans` with changes for kinds of plans, each of which may have `devices` again.
    What a task wants of any recipe comes last.

    Args:
        recipe: Name of a recipe of the package.
        assignments: Changes, each `key=value` such as "optimiser.learning_rate=0.02"; values are read as YAML.
        device_type: Type of the device that training will run on, such as "cpu" or "cuda".
        plan_kind: Kind of plan, where none of the assignments names one; None: the recipe's.
        task: Name in the registry of tasks, whose `recipe` is taken in.
        **top: Values of top-level settings, by name.

    Raises:
        ConfigError: A setting is unknown or out of its range; the text names every such one.
    """
    tree = _recipe_tree(recipe)
    by_plan = tree.pop("plans", {})
    _merge(tree, tree.pop("devices", {}).get(device_type, {}))
    tree.update(top)
    kind = _assigned_plan_kind(assignments) or plan_kind
    if kind is not None:
        tree["plan"] = {**_inherited(tree, "plan", kind), "kind": kind}
        changes = by_plan.get(kind, {})
        by_device = changes.pop("devices", {})
        for change in (changes, by_device.get(device_type, {})):
            _change_kinds(tree, change)
            _merge(tree, change)
    _merge(tree, TASKS.find(task).recipe)
    for assignment in sorted(assignments, key=_is_not_of_kind):
        _assign(tree, assignment)
    import_named(tree)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        own = [
            name
            for section, (_, part) in PARTS.items()
            for name in _names(part.class_of(_kind(tree, section)), f"{section}.")
        ]
        raise ConfigError(_faults(error, own=own)) from None
    config.check_methods()
    return config


def _recipe_tree(name: str) -> dict[str, Any]:
    """The sections of a recipe, on top of those of the recipe that it is like."""
    own: dict[str, Any] = yaml.safe_load(recipe_text(name))
    like = own.pop("like", None)
    if like is None:
        return own
    tree = _recipe_tree(like)
    _merge(tree, own)
    return tree


def import_named(tree: Mapping[str, Any]) -> None:
    """Import the methods, plan and network from outside fewscan that settings name as `package.module:Class`.

    For settings of the user of this process alone, never for those of a file that may be somebody else's.

    Args:
        tree: Tree of settings, not yet checked.

    Raises:
        ConfigError: A module or class is not there, or the class is no method, plan or network.
    """
    sections = tree.get("methods")
    methods = [tree.get("method"), *(sections if isinstance(sections, Mapping) else ())]
    parts = [(registry, [_kind(tree, section)]) for section, (registry, _) in PARTS.items()]
    for registry, names in ((METHODS, methods), *parts):
        for name in names:
            if isinstance(name, str) and ":" in name:
                registry.load(name)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a run's config.yaml, of this version of fewscan or an older one, hence not checked.

    Raises:
        DataError: The settings cannot be read.
    """
    text = read_text(path)
    try:
        settings = _plain(text)
    except ConfigError as error:
        raise DataError.of(path, f"cannot be read: {str(error).rstrip('.')}", "Restore it") from None
    if not isinstance(settings, dict) or "method" not in settings:
        raise DataError.of(path, "not the settings of a run", "Restore it")
    return settings


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The values of a tree of settings by their full names, such as "plan.size".

    Args:
        tree: Settings as YAML has them.
        prefix: Name of the section that the tree is; empty: it is the whole.

    >>> leaves({"plan": {"size": 64}, "seed": 0})
    {'plan.size': 64, 'seed': 0}
    """
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def renamed(name: str) -> str | None:
    """What has taken the place of a setting of older versions, in words; None: no version had it, or this one has it.

    >>> renamed("stages.anatomical.labelled")
    'is now training.labelled'
    """
    parts = name.split(".")
    beginnings = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((RENAMED[beginning] for beginning in beginnings if beginning in RENAMED), None)


def _merge(tree: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            # Never the changes' own: a tree is written to.
            tree[key] = deepcopy(value)


def _assign(tree: dict[str, Any], assignment: str) -> None:
    path, equals, text = assignment.partition("=")
    if not equals:
        raise ConfigError(f"--set {assignment}: write it as key=value, such as optimiser.learning_rate=0.02.")
    value = _value(assignment, text)
    *parents, leaf = _split_key(path.strip())
    if leaf == "kind" and len(parents) == 1 and parents[0] in PARTS and isinstance(value, str):
        tree[parents[0]] = _inherited(tree, parents[0], value)
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {assignment}: {parent} is a value and has no settings of its own.")
    tree[leaf] = value


def _change_kinds(tree: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Leave out of a section the settings of another kind of part than the one that changes name."""
    for section in PARTS:
        change = changes.get(section, {})
        if "kind" in change:
            tree[section] = _inherited(tree, section, change["kind"])


def _assigned_plan_kind(assignments: Iterable[str]) -> str | None:
    """The kind of plan that assignments name; None: they name none."""
    kinds = [
        _value(assignment, text)
        for assignment in assignments
        for key, equals, text in [assignment.partition("=")]
        if equals and key.strip() == "plan.kind"
    ]
    return kinds[-1] if kinds and isinstance(kinds[-1], str) else None


def _is_not_of_kind(assignment: str) -> bool:
    """To sort by: which part it is has to be known before its settings."""
    return assignment.partition("=")[0].strip() not in [f"{section}.kind" for section in PARTS]


def _kind(tree: Mapping[str, Any], section: str) -> Any:
    (_, part), settings = PARTS[section], tree.get(section)
    return settings.get("kind", part.default) if isinstance(settings, Mapping) else part.default


def _inherited(tree: Mapping[str, Any], section: str, kind: str) -> dict[str, Any]:
    """The recipe's settings that another kind has from a class that both are derived from; the rest is not its own."""
    registry, part = PARTS[section]
    if ":" in kind:
        registry.load(kind)
    before, now = part.class_of(_kind(tree, section)), part.class_of(kind)
    shared = next(base for base in now.__mro__ if issubclass(before, base))
    return {name: value for name, value in tree.get(section, {}).items() if name in getattr(shared, "model_fields", {})}


def _split_key(key: str) -> list[str]:
    """The parts of methods.NAME.SETTING and so on; the name of a method from outside may have dots of its own."""
    section, _, rest = key.partition(".")
    if section != "methods" or not rest:
        return key.split(".")
    outside = METHOD_FROM_OUTSIDE.match(key)
    known = [name for name in METHODS.names() if f"{rest}.".startswith(f"{name}.")]
    # Of two names of which one begins with the other the longer is meant.
    name = outside["name"] if outside is not None else max(known, key=len, default=rest.partition(".")[0])
    inner = rest[len(name) :]
    return [section, name, *(inner[1:].split(".") if inner else [])]


def _value(assignment: str, text: str) -> Any:
    try:
        return _plain(text)
    except ConfigError as error:
        raise ConfigError(f"--set {assignment[:80]}: {error}") from None


def _plain(text: str) -> Any:
    """A plain YAML value: tags make objects, and references small texts without end, so neither is read.

    Raises:
        ConfigError: The value is not plain, or no YAML.
    """
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST_VALUE:
                raise ConfigError("nested too deeply. No setting is.")
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise ConfigError("YAML tags and references are not read. Write the value out.")
        return yaml.safe_load(text)
    # Beside its own errors PyYAML lets through those of dates, numbers and keys that Python cannot make.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError):
        raise ConfigError(f"{text[:40]!r} cannot be read as a value. Write it as YAML.") from None


def _method_settings(method: str, section: dict[str, Any]) -> MethodSettings:
    settings: type[MethodSettings] = METHODS.find(method).Settings
    try:
        return settings.model_validate(section)
    except ValidationError as error:
        prefix = f"methods.{method}."
        raise ConfigError(_faults(error, prefix, _names(settings, prefix))) from None


def _faults(error: ValidationError, prefix: str = "", own: Iterable[str] = ()) -> str:
    """All that is wrong, a line each.

    Args:
        error: Error of pydantic with all that was found.
        prefix: Section that was looked at, with a dot at the end; empty: the whole tree.
        own: Names of the settings of parts that are not fewscan's own.
    """
    known = [*own, *_names(Config), *_method_names()]
    lines = []
    for fault in error.errors():
        name = prefix + ".".join(str(part) for part in fault["loc"])
        if renamed(name) is not None:
            lines += [f"  {leaf}: {renamed(leaf)}." for leaf in leaves(fault["input"], name)]
            continue
        hint = _hint(name, known) if fault["type"] == "extra_forbidden" else ""
        lines.append(f"  {name}: {fault['msg']} (got {fault['input']!r}).{hint}")
    return "\n".join(["These settings cannot be used:", *lines])


def _hint(name: str, known: Iterable[str]) -> str:
    """The nearest known name: of the same section, else the last part's nearest anywhere."""
    section, _, leaf = name.rpartition(".")
    anywhere: dict[str, str] = {}
    siblings: dict[str, str] = {}
    for other in known:
        folder, _, last = other.rpartition(".")
        anywhere.setdefault(last, other)
        if folder == section:
            siblings[last] = other
    for table in (siblings, anywhere):
        meant = nearest(leaf, table)
        if meant is not None:
            return f" Did you mean {table[meant]}?"
    return ""


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every setting below a section, with its section's name."""
    for field, info in model.model_fields.items():
        name = f"{prefix}{info.alias or field}"
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _names(info.annotation, f"{name}.")
        else:
            yield name


def _method_names() -> Iterator[str]:
    for method in METHODS.built_in:
        yield from _names(METHODS.find(method).Settings, f"methods.{method}.")

"""Tables of settings in Markdown, from the pydantic models and the recipes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

from fewscan.config import Config, load_config
from fewscan.data.plans.kinds import settings_class
from fewscan.methods.base import MethodSettings
from fewscan.networks.segmenter import NetworkSettings
from fewscan.registry import METHODS, NETWORKS, PLANS

# Name in the table → recipe and type of device.
RECIPES = {
    "paper": ("paper", "cpu"),
    "quick": ("quick", "cpu"),
    "night": ("night", "cpu"),
    "auto, CPU": ("auto", "cpu"),
    "auto, GPU": ("auto", "cuda"),
}
LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}


class Setting(NamedTuple):
    """A row of a table.

    Attributes:
        path: from the top of the tree of settings.
        kind: type and range, in words.
        default: None where there is none.
        text: what it does.
    """

    path: tuple[str, ...]
    kind: str
    default: Any
    text: str


def settings_of(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """All settings of a model, those of the models in it included."""
    properties = model.model_json_schema(mode="validation")["properties"]
    for name, field in model.model_fields.items():
        key = field.alias or name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings_of(field.annotation, (*path, key))
        else:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            yield Setting((*path, key), _kind(properties[key]), default, field.description or "")


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        *others, last = map(code, schema["enum"])
        return f"{', '.join(others)} or {last}"
    kind = {"boolean": "yes or no", "array": "list", "object": "table"}.get(schema["type"], schema["type"])
    limits = [text.format(_plain(schema[key])) for key, text in LIMITS.items() if key in schema]
    return ", ".join([kind, *limits])


def _plain(value: Any) -> str:
    """A value as YAML would have it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_plain(part) for part in value)}]"
    return str(value)


def code(value: Any) -> str:
    """A value in code font."""
    return f"`{_plain(value)}`"


def table(settings: list[Setting], resolved: dict[str, Any]) -> str:
    """Name, meaning, default, what recipes have instead, and type.

    Args:
        settings: the rows.
        resolved: by name of the recipe, the tree that `path` leads through.
    """
    lines = ["| setting | meaning | default | in the recipes | type |", "|---|---|---|---|---|"]
    for setting in settings:
        default = "" if setting.default is None else code(setting.default)
        name = code(".".join(setting.path))
        lines.append(f"| {name} | {setting.text} | {default} | {_exceptions(setting, resolved)} | {setting.kind} |")
    return "\n".join(lines)


def _exceptions(setting: Setting, resolved: dict[str, Any]) -> str:
    values: dict[str, list[str]] = {}
    for recipe, tree in resolved.items():
        value: Any = tree
        for key in setting.path:
            value = value[key]
        if _plain(value) != _plain(setting.default):
            values.setdefault(_plain(value), []).append(recipe)
    return "; ".join(f"{_joined(recipes)}: `{value}`" for value, recipes in values.items())


def _joined(recipes: list[str]) -> str:
    both = [name for name in RECIPES if name.startswith("auto")]
    names = [name for name in recipes if name not in both]
    ours = [name for name in recipes if name in both]
    return " and ".join([*names, *(["auto"] if ours == both else ours)])


def method_settings(name: str) -> str:
    """The table of a method's own settings."""
    model: type[MethodSettings] = METHODS.find(name).Settings
    settings = list(settings_of(model))
    if not settings:
        return "This method has no settings of its own."
    configs = {
        label: load_config(recipe, device_type=device, method=name) for label, (recipe, device) in RECIPES.items()
    }
    resolved = {
        label: config.method_settings().model_dump(mode="json", by_alias=True) for label, config in configs.items()
    }
    return table(settings, resolved)


def network_settings() -> str:
    """A table for every network of fewscan's own."""
    texts = ["## network"]
    for kind in NETWORKS.built_in:
        model: type[NetworkSettings] = NETWORKS.find(kind).Settings
        rows = table(list(settings_of(model, ("network",))), _resolved(f"network.kind={kind}"))
        texts.append(f"### network.kind={kind}\n\n{(model.__doc__ or '').strip()}\n\n{rows}")
    return "\n\n".join(texts)


def plan_settings() -> str:
    """A table for every kind of plan of fewscan's own."""
    texts = ["## plan"]
    for kind in PLANS.built_in:
        model = settings_class(kind)
        rows = table(list(settings_of(model, ("plan",))), _resolved(f"plan.kind={kind}"))
        texts.append(f"### plan.kind={kind}\n\n{(model.__doc__ or '').strip()}\n\n{rows}")
    return "\n\n".join(texts)


def _resolved(*assignments: str) -> dict[str, Any]:
    """The tree of settings of every recipe and device, by the name in the table."""
    return {
        label: load_config(recipe, assignments, device).model_dump(mode="json", by_alias=True)
        for label, (recipe, device) in RECIPES.items()
    }


def all_settings() -> str:
    """A table for every section of the tree of settings; the methods' own are on their pages."""
    resolved = _resolved()
    sections: dict[str, list[Setting]] = {}
    for setting in settings_of(Config):
        if setting.path != ("methods",):
            section = setting.path[0] if len(setting.path) > 1 else ""
            sections.setdefault(section, []).append(setting)
    texts = []
    for section, settings in sections.items():
        if section == "network":
            texts.append(network_settings())
            continue
        if section == "plan":
            texts.append(plan_settings())
            continue
        field = next((f for name, f in Config.model_fields.items() if section == (f.alias or name)), None)
        about = (field.annotation.__doc__ or "").strip() if field is not None and field.annotation is not None else ""
        texts.append(f"## {section or 'The run'}\n\n{about}\n\n{table(settings, resolved)}")
    return "\n\n".join(texts)

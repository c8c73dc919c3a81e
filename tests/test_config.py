import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import BaseModel

import fewscan
from fewscan.config import RECIPES, RENAMED, Config, leaves, load_config, read_settings, recipe_text
from fewscan.errors import ConfigError, DataError
from fewscan.methods.action import ActionSettings
from fewscan.methods.mean_teacher import MeanTeacher
from fewscan.registry import METHODS, NETWORKS, PLANS
from fewscan.testing.methods import make_spec
from support.scans import PLAN
from support.steps import TRAINED


def of_any_kind(settings: BaseModel) -> Any:
    """Settings whose class is not known before they are read."""
    return settings


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("method", METHODS.built_in)
def test_recipes_are_valid_and_survive_saving(recipe: str, device: str, method: str) -> None:
    config = load_config(recipe, (), device, method=method, seed=3)
    saved = yaml.safe_load(config.to_yaml())
    again = Config.model_validate(saved)
    assert again.method_settings() == config.method_settings()
    assert again.model_copy(update={"methods": {}}) == config.model_copy(update={"methods": {}})
    assert saved["seed"] == 3


def test_paper_recipe_is_the_published_one() -> None:
    config = load_config("paper")
    plan = of_any_kind(config.plan)
    assert (plan.size, plan.view, plan.normalisation) == (256, "stretch", "minmax")
    assert (config.optimiser.learning_rate, config.optimiser.weight_decay) == (0.01, 1e-4)
    settings = config.method_settings()
    assert settings.model_dump() == {
        **ActionSettings().model_dump(),
        "unsup_form": "image_weighted",
        "predict_with": "student",
        "teacher_statistics": "averaged",
        "pretraining": {
            "global_": {"updates": 30_000, "unlabelled": 6},
            "local": {"updates": 30_000, "labelled": 3, "unlabelled": 3},
        },
    }
    assert config.training.updates == 90_000
    published = {"bank_size": 36, "momentum": 0.99, "tau_teacher": 0.01, "tau_student": 0.1, "tau_anco": 0.5}
    published |= {"queries": 256, "negatives": 512, "confident_from": 0.97, "valid_from": 0.7, "lambda_anco": 0.01}
    assert {key: getattr(settings, key) for key in published} == published


def test_auto_depends_on_the_device() -> None:
    assert (
        of_any_kind(load_config("auto", (), "cpu").plan).size < of_any_kind(load_config("auto", (), "cuda").plan).size
    )


def test_paper_trains_volumes_with_the_v_net_of_the_left_atrium() -> None:
    config = load_config("paper", plan_kind="volumes")
    assert (config.network.kind, of_any_kind(config.plan).voxels) == ("vnet", 112 * 112 * 80)
    assert (config.training.labelled, config.training.unlabelled) == (2, 2)
    # Another kind, and the published one's own settings, can be asked for as anywhere.
    assert load_config("paper", ["network.kind=unet"], plan_kind="volumes").network.kind == "unet"
    assert of_any_kind(load_config("paper", ["network.width=8"], plan_kind="volumes").network).width == 8
    assert load_config("paper").network.kind == "unet"


def test_recipes_have_settings_for_each_kind_of_plan_and_device_below_the_users_own() -> None:
    for recipe, device in (("quick", "cpu"), ("quick", "cuda"), ("auto", "cpu")):
        config = load_config(recipe, ["plan.kind=volumes"], device)
        assert config.plan.kind == "volumes"
        assert of_any_kind(config.plan).voxels == 400_000
        assert of_any_kind(config.network).channels == (8, 16, 32, 64, 128)
        assert (config.training.labelled, config.training.unlabelled) == (2, 2)
        assert config == load_config(recipe, [], device, plan_kind="volumes")
    assert of_any_kind(load_config("auto", ["plan.kind=volumes"], "cuda").plan).voxels == 1_000_000
    own = ["training.labelled=3", "plan.voxels=5000", "plan.kind=volumes", "network.channels=[4,8]"]
    config = load_config("quick", [*own, "network.dropout=[0,0]"])
    assert config.training.labelled == 3
    assert (of_any_kind(config.plan).voxels, of_any_kind(config.network).channels) == (5000, (4, 8))
    assert load_config("quick", ["plan.kind=slices"]).training == load_config("quick").training
    assert load_config("quick", ["plan.kind=slices"], plan_kind="volumes").plan.kind == "slices"


@pytest.mark.parametrize("kind", ["slices", "volumes"])
def test_night_is_quick_but_for_its_length(kind: str) -> None:
    quick, night = (leaves(yaml.safe_load(load_config(name, plan_kind=kind).to_yaml())) for name in ("quick", "night"))
    assert {name for name in quick if quick[name] != night[name]} == {
        "training.updates",
        "logging.every",
        "logging.validate_every",
        "methods.action.ramp_up",
    }
    assert night["training.updates"] == 5 * quick["training.updates"]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("method", METHODS.built_in)
def test_recipes_for_volumes_are_valid_for_every_method(recipe: str, device: str, method: str) -> None:
    config = load_config(recipe, (), device, plan_kind="volumes", method=method)
    assert Config.model_validate(yaml.safe_load(config.to_yaml())).plan == config.plan


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_a_task_wants_is_above_every_recipe_and_below_the_users_own(recipe: str) -> None:
    assert load_config(recipe, task="semantic") == load_config(recipe)
    config = load_config(recipe, task="instances")
    assert config.augmentation.spatial.turn == 0.5
    assert config.augmentation.spatial.flip == 0.5
    own = load_config(recipe, ["augmentation.spatial.turn=0.25"], task="instances")
    assert own.augmentation.spatial.turn == 0.25
    assert load_config(recipe, task="instances") == config


@pytest.mark.parametrize("method", METHODS.built_in)
def test_methods_that_believe_from_a_confidence_on_believe_some_border_of_objects(method: str) -> None:
    settings = load_config("quick", method=method, task="instances").method_settings()
    assert getattr(settings, "confident_share", 0.0) == (0.5 if hasattr(settings, "confident_from") else 0)


def test_assignments() -> None:
    config = load_config("quick", ["optimiser.learning_rate=0.5", "methods.action.use_anco=false", "plan.view=whole"])
    assert config.optimiser.learning_rate == 0.5
    assert of_any_kind(config.method_settings()).use_anco is False
    assert of_any_kind(config.plan).view == "whole"


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["optimiser.learnin_rate=1"], r"optimiser\.learnin_rate"),
        (["optimiser.learning_rate=-1", "plan.size=x"], r"(?s)plan\.size.*optimiser\.learning_rate"),
        (["methods.action.momentum=2"], r"methods\.action\.momentum"),
        (["methods.actoin.momentum=0"], "no such method"),
        (["seed.of.all=1"], "seed is a value"),
        (["nonsense"], "write it as key=value"),
        (["plan.size=[1"], "cannot be read as a value"),
    ],
)
def test_bad_settings_are_named(assignments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("quick", assignments, seed=0)


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match="no recipe named 'quik'"):
        recipe_text("quik")
    with pytest.raises(ConfigError, match=r"no method named 'actoin'. Did you mean action"):
        load_config("quick", method="actoin")


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from models(field.annotation)


def test_every_setting_is_read_somewhere() -> None:
    source = Path(fewscan.__file__).parent
    read = {
        node.attr
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    unread = {
        f"{model.__name__}.{name}"
        for model in (
            *models(Config),
            *(registry.find(name).Settings for registry in (METHODS, NETWORKS, PLANS) for name in registry.built_in),
        )
        for name in model.model_fields
        if name not in read
    }
    assert not unread


FRAGMENT = re.compile(r"(of|at|in|as|by|for|from|between|that|those|which|also|it|its|and|or)\b", re.IGNORECASE)


def test_every_description_of_a_setting_is_a_phrase_that_stands_alone() -> None:
    parts = [registry.find(name).Settings for registry in (METHODS, NETWORKS, PLANS) for name in registry.built_in]
    fields = {
        f"{model.__name__}.{name}": field
        for part in (Config, *parts)
        for model in models(part)
        for name, field in model.model_fields.items()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    }
    assert len(fields) > 80
    faulty = {
        name: field.description
        for name, field in fields.items()
        if not re.fullmatch(r"[A-Z].{15,}\.", field.description or "") or FRAGMENT.match(field.description or "")
    }
    assert not faulty


@pytest.mark.parametrize(
    ("assignment", "meant"),
    [
        ("optimiser.lerning_rate=0.1", "optimiser.learning_rate"),
        ("plan.sise=64", "plan.size"),
        ("learning_rate=0.1", "optimiser.learning_rate"),
        ("methods.action.representaton=8", "methods.action.representation"),
        ("methods.bcp.pseudo_weigth=1", "methods.bcp.pseudo_weight"),
        ("methods.cpss={}", "cps"),
        ("network.chanels=[4,8]", "network.channels"),
        ("network.kind=unett", "unet"),
        ("plan.kind=slice", "slices"),
        ("methods.action.pretraining.global.update=3", "methods.action.pretraining.global.updates"),
    ],
)
def test_a_setting_that_is_none_names_the_nearest(assignment: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"Did you mean {re.escape(meant)}\?"):
        load_config("quick", [assignment])


def test_sections_of_methods_that_are_not_chosen_are_checked_too() -> None:
    for setting in ("methods.fixmatch.speed", "methods.action.quries", "methods.action.pretraining.local.update"):
        with pytest.raises(ConfigError, match=rf"{re.escape(setting)}: Extra inputs are not permitted"):
            load_config("quick", [f"{setting}=3"], method="supervised")


def test_a_runs_settings_may_begin_with_a_byte_order_mark_and_are_plain(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("method: action\n", encoding="utf-8-sig")
    assert read_settings(path) == {"method": "action"}
    for text in ("method: action\nseed: " + "[" * 20000, "method: &a action\nseed: *a", "method: !!python/name:os.x a"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"config\.yaml: cannot be read: .* Restore it"):
            read_settings(path)


OUTSIDE = """
from fewscan.data.plans.base import PlanSettings
from fewscan.data.plans.slices.plan import SlicePlan
from fewscan.data.plans.slices.planner import SliceSettings
from fewscan.methods.mean_teacher import MeanTeacher
from fewscan.networks.segmenter import NetworkSettings
from fewscan.networks.unet import UNet

class OwnSettings(NetworkSettings):
    width: int = 8

    @property
    def stride(self) -> int:
        return 3

class Own(UNet):
    Settings = OwnSettings

class Unset(UNet):
    Settings = None

class Mine(MeanTeacher):
    pass

class DeepSettings(PlanSettings):
    depth: int = 8

class Deep(SlicePlan):
    Settings = DeepSettings

class DeeperSettings(SliceSettings):
    depth: int = 8

class Deeper(SlicePlan):
    Settings = DeeperSettings
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module in the current folder; forgotten afterwards."""
    name = f"outside_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OUTSIDE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)
    for registry in (METHODS, NETWORKS, PLANS):
        for known in registry.names():
            if known.startswith(f"{name}:"):
                registry.unregister(known)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_network_from_outside_has_its_own_settings_in_any_recipe(outside: str, recipe: str) -> None:
    config = load_config(recipe, ["network.width=4", f"network.kind={outside}:Own"])
    assert config.network.model_dump() == {"kind": f"{outside}:Own", "width": 4}
    assert config.network.stride == 3
    assert Config.model_validate(yaml.safe_load(config.to_yaml())).network == config.network
    with pytest.raises(ConfigError, match=r"network\.widht: .* Did you mean network\.width\?"):
        load_config(recipe, [f"network.kind={outside}:Own", "network.widht=4"])
    with pytest.raises(ConfigError, match="has no Settings"):
        load_config(recipe, [f"network.kind={outside}:Unset"])


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_plan_from_outside_has_its_own_settings_and_those_that_it_inherits(outside: str, recipe: str) -> None:
    usual = load_config(recipe).plan.model_dump()
    deep = load_config(recipe, ["plan.depth=4", f"plan.kind={outside}:Deep"])
    shared = {"kind": f"{outside}:Deep", "normalisation": usual["normalisation"], "depth": 4}
    assert deep.plan.model_dump() == shared
    assert Config.model_validate(yaml.safe_load(deep.to_yaml())).plan == deep.plan
    deeper = load_config(recipe, [f"plan.kind={outside}:Deeper"])
    assert deeper.plan.model_dump() == {**usual, "kind": f"{outside}:Deeper", "depth": 8}
    with pytest.raises(ConfigError, match=r"plan\.depht: .* Did you mean plan\.depth\?"):
        load_config(recipe, [f"plan.kind={outside}:Deep", "plan.depht=4"])
    with pytest.raises(ConfigError, match=r"plan\.size: Extra inputs are not permitted"):
        load_config(recipe, [f"plan.kind={outside}:Deep", "plan.size=64"])


def test_a_method_from_outside_has_a_section_of_its_name(outside: str) -> None:
    name = f"{outside}:Mine"
    config = load_config("quick", [f"methods.{name}.momentum=0.5"], method=name)
    assert of_any_kind(config.method_settings()).momentum == 0.5
    assert yaml.safe_load(config.to_yaml())["methods"][name]["momentum"] == 0.5
    whole = load_config("quick", [f"methods.{name}={{momentum: 0.25}}"], method=name)
    assert of_any_kind(whole.method_settings()).momentum == 0.25
    with pytest.raises(ConfigError, match=rf"methods\.{name}\.momentun: .* Did you mean methods\.{name}\.momentum\?"):
        load_config("quick", [f"methods.{name}.momentun=0.5"], method=name)
    with pytest.raises(ConfigError, match="has no Mime"):
        load_config("quick", ["methods." + f"{outside}:Mime.momentum=0.5"])


@pytest.fixture
def dotted() -> Iterator[str]:
    """A method that was registered by a name with dots, beside one whose name it begins with."""
    METHODS.register("lab", type("Lab", (MeanTeacher,), {}))
    METHODS.register("lab.v2.mine", MeanTeacher)
    yield "lab.v2.mine"
    METHODS.unregister("lab")
    METHODS.unregister("lab.v2.mine")


def test_a_method_may_be_registered_by_a_name_with_dots(dotted: str) -> None:
    config = load_config("quick", [f"methods.{dotted}.momentum=0.5", "methods.lab.momentum=0.75"], method=dotted)
    assert of_any_kind(config.method_settings()).momentum == 0.5
    other = load_config("quick", ["methods.lab.momentum=0.75"], method="lab")
    assert of_any_kind(other.method_settings()).momentum == 0.75
    assert Config.model_validate(yaml.safe_load(config.to_yaml())).method_settings() == config.method_settings()
    whole = load_config("quick", [f"methods.{dotted}={{momentum: 0}}"], method=dotted)
    assert of_any_kind(whole.method_settings()).momentum == 0
    with pytest.raises(
        ConfigError, match=rf"methods\.{dotted}\.momentun: .* Did you mean methods\.{dotted}\.momentum\?"
    ):
        load_config("quick", [f"methods.{dotted}.momentun=0.5"], method=dotted)


def test_settings_that_are_only_read_import_nothing(outside: str) -> None:
    saved = yaml.safe_load(load_config("quick").to_yaml())
    for section, name in (("network", "Own"), ("plan", "Deep")):
        with pytest.raises(ConfigError, match="not known in this process"):
            Config.model_validate({**saved, section: {"kind": f"{outside}:{name}"}})
    assert outside not in sys.modules


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("stages.anatomical.updates=5", "stages.anatomical.updates: is now training.updates, which counts"),
        ("stages.anatomical.unlabelled=5", "stages.anatomical.unlabelled: is now training.unlabelled."),
        ("stages.global.updates=5", "stages.global.updates: is now methods.action.pretraining.global.updates, or that"),
        ("stages.global.labelled=0", "stages.global.labelled: is gone"),
        ("stages.local={labelled: 2}", "stages.local.labelled: is now methods.action.pretraining.local.labelled, or"),
        ("stages.later.updates=1", "stages.later.updates: is now training, and methods.action.pretraining or"),
        ("stages=3", "stages: is now training, and methods.action.pretraining or"),
    ],
)
def test_settings_of_older_versions_are_refused_with_their_new_names(assignment: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        load_config("quick", [assignment])


def test_every_new_name_of_a_setting_is_one() -> None:
    trees = [yaml.safe_load(load_config("quick", method=method).to_yaml()) for method in ("action", "action_pp")]
    known = [f"{name}." for tree in trees for name in leaves(tree)]
    words = {word for text in RENAMED.values() for word in re.findall(r"(?:training|methods)(?:\.[a-z_]+)*", text)}
    assert words
    assert all(any(name.startswith(f"{word}.") for name in known) for word in words)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_method_trains_for_equally_many_updates(recipe: str, device: str) -> None:
    lengths = {}
    for name in TRAINED:
        config = load_config(recipe, (), device, method=name)
        method = METHODS.find(name)(make_spec(training=config.training), config.method_settings())
        lengths[name] = sum(stage.updates for stage in method.stages())
    assert set(lengths.values()) == {config.training.updates}


def test_what_is_left_to_the_device_and_the_plan_is_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def be_on_a_machine(*, with_bfloat16: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": with_bfloat16})

    be_on_a_machine(with_bfloat16=True)
    cpu, config = torch.device("cpu"), load_config("quick")
    resolved = config.resolved(PLAN.model_copy(update={"turned": 0.2}), cpu)
    assert (config.is_resolved, resolved.is_resolved) == (False, True)
    assert (resolved.precision, resolved.augmentation.spatial.turn) == ("bfloat16", 0.5)
    assert Config.model_validate(yaml.safe_load(resolved.to_yaml())).is_resolved
    be_on_a_machine(with_bfloat16=False)
    assert resolved.resolved(PLAN, cpu) == resolved
    assert config.resolved(PLAN, cpu).precision == "float32"


def test_pretraining_is_a_part_of_the_training() -> None:
    longer = ["training.updates=5", "methods.action.pretraining.local.updates=6"]
    with pytest.raises(ConfigError, match=r"methods\.action\.pretraining: .*0 \+ 6 updates.*training\.updates=5"):
        load_config("quick", longer)
    assert load_config("quick", longer, method="supervised").training.updates == 5
    as_long = load_config("quick", ["training.updates=6", "methods.action.pretraining.local.updates=6"])
    assert of_any_kind(as_long.method_settings()).pretraining.updates == 6

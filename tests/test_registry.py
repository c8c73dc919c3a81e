"""Parts are found by name, from outside too, and no code is imported that nobody in this process has named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fewscan.errors import ConfigError
from fewscan.methods.base import Method
from fewscan.methods.supervised import Supervised
from fewscan.registry import METHODS, Registry

PLUGIN = """
from fewscan.methods.base import Method
from fewscan.methods.supervised import Supervised

class Mine(Supervised):
    pass

class Unfinished(Method):
    pass

class Other:
    pass
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module in the current folder, which is not on the path; forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    name = f"plugin_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(PLUGIN)
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def methods() -> Registry:
    """A registry of methods of a test's own."""
    return Registry(
        "method",
        "fewscan.methods",
        {"supervised": "fewscan.methods.supervised:Supervised"},
        "fewscan.methods.base:Method",
    )


def install(folder: Path, name: str, package: str, target: str) -> None:
    """A package's entry point, as an installer leaves it."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fewscan.methods]\n{name} = {target}\n")


@pytest.mark.parametrize("name", METHODS.built_in)
def test_methods_are_final(name: str) -> None:
    kind = METHODS.find(name)
    assert issubclass(kind, Method)
    assert not [derived for derived in kind.__subclasses__() if derived.__module__.startswith("fewscan.")]


def test_the_command_line_names_all_methods_and_imports_nothing_heavy() -> None:
    script = (
        "import sys, typing, fewscan.cli as cli\n"
        "print(typing.get_args(cli.MethodName)[1].help)\n"
        "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in METHODS.built_in)


def test_a_path_is_loaded_from_the_current_folder_and_known_from_then_on(methods: Registry, plugin: str) -> None:
    before = list(sys.path)
    loaded = methods.load(f"{plugin}:Mine")
    assert issubclass(loaded, Supervised)
    assert sys.path == before
    assert methods.find(f"{plugin}:Mine") is loaded
    assert f"{plugin}:Mine" in methods


def test_an_installed_module_goes_before_one_of_the_current_folder(
    methods: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wave.py").write_text("raise AssertionError('the standard library has a module of this name')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with pytest.raises(ConfigError, match="is no Method"):
        methods.load("wave:Wave_read")


def test_finding_imports_no_path_that_nobody_loaded(methods: Registry, plugin: str) -> None:
    with pytest.raises(ConfigError, match=r"not known in this process.*if you trust it, name it yourself"):
        methods.find(f"{plugin}:Mine")
    assert plugin not in sys.modules


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:Mine", r"no module no_such_module, neither in .* nor installed\. Install"),
        ("fewscan.no_such:Mine", r"no module fewscan\.no_such,"),
        ("PLUGIN:Mime", r"PLUGIN\.py has no Mime\. Did you mean Mine\?"),
        ("PLUGIN:Zzz", r"has no Zzz\. Write the class's name after the colon"),
        ("PLUGIN:Other", r"is no Method\. Derive its class from fewscan\.methods\.base\.Method"),
        ("PLUGIN:Unfinished", r"is abstract\. Write its forward, stages"),
        ("PLUGIN.py:Mine", r"no module PLUGIN\.py"),
        ("PLUGIN:", "not of the form package.module:Class"),
        ("../PLUGIN:Mine", "not of the form package.module:Class"),
        ("superwised", r"no method named 'superwised'\. Did you mean supervised\?.*package\.module:Class of your own"),
    ],
)
def test_what_cannot_be_loaded_is_said_with_the_way_out(
    methods: Registry, plugin: str, path: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message.replace("PLUGIN", plugin)):
        methods.load(path.replace("PLUGIN", plugin))


def test_a_module_that_needs_another_one_shows_its_own_error(
    methods: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import no_such_package")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        methods.load("needs_more:Mine")


def test_registering_is_a_call_or_a_decorator_and_can_be_taken_back(methods: Registry) -> None:
    @methods.register("mine")
    class Mine(Supervised):
        pass

    assert methods.find("mine") is Mine
    assert methods.register("late", "fewscan.methods.entropy:Entropy") == "fewscan.methods.entropy:Entropy"
    assert methods.find("late").__name__ == "Entropy"
    assert {"supervised", "mine", "late"} <= set(methods.names())
    methods.unregister("mine")
    assert "mine" not in methods
    for name in ("mine", "supervised"):
        with pytest.raises(ConfigError, match="No method was registered"):
            methods.unregister(name)


def test_a_class_defined_anew_replaces_its_older_self_alone(methods: Registry) -> None:
    def define() -> type[Method]:
        class Mine(Supervised):
            pass

        return methods.register("mine", Mine)

    define()
    second = define()
    assert methods.find("mine") is second
    for name in ("mine", "supervised"):
        with pytest.raises(ConfigError, match=f"a method named '{name}' already"):
            methods.register(name, Supervised)
    with pytest.raises(ConfigError, match="has a colon"):
        methods.register("a:b", Supervised)
    with pytest.raises(ConfigError, match="is no Method"):
        methods.register("number", 3)


def test_installed_packages_offer_parts(
    methods: Registry, plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path, "offered", "nice_package", f"{plugin}:Mine")
    install(tmp_path, "broken", "old_package", f"{plugin}:Gone")
    install(tmp_path, "supervised", "rude_package", f"{plugin}:Mine")
    assert "offered" in methods
    assert plugin not in sys.modules
    assert issubclass(methods.find("offered"), Supervised)
    assert methods.find("supervised") is Supervised
    with pytest.raises(ConfigError, match=r"'broken' of the package old_package cannot be imported: .*Gone"):
        methods.find("broken")
    with pytest.raises(ConfigError, match=r"Did you mean offered\? There are: supervised, offered, broken"):
        methods.find("ofered")


def test_a_name_that_two_packages_offer_is_refused(
    methods: Registry, plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for package in ("first_package", "second_package"):
        install(tmp_path, "offered", package, f"{plugin}:Mine")
    with pytest.raises(ConfigError, match=r"offered by \w+_package and \w+_package\. Uninstall all but one"):
        methods.find("offered")

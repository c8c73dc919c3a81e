"""What `import fewscan` shows: names, types and signatures, at no cost."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fewscan
import fewscan.errors

ROOT = Path(__file__).parents[1]
COMMANDS = (
    *("benchmark", "check", "convert", "demo", "doctor", "evaluate"),
    *("export", "predict", "report", "sequence", "suggest", "train"),
)
HEAVY = "{'torch', 'numpy', 'scipy', 'SimpleITK', 'nibabel', 'pydantic', 'rich', 'typer', 'matplotlib', 'yaml'}"


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_every_name_is_there_and_listed_in_order() -> None:
    assert fewscan.__all__ == sorted(fewscan.__all__)
    assert dir(fewscan) == fewscan.__all__
    for name in fewscan.__all__:
        assert getattr(fewscan, name) is not None
    assert {name for name in fewscan.__all__ if name.islower() and not name.startswith("_")} == set(COMMANDS)
    with pytest.raises(AttributeError, match="module 'fewscan' has no attribute 'trian'"):
        exec("fewscan.trian")
    with pytest.raises(ImportError, match="trian"):
        exec("from fewscan import trian")


def test_every_exception_and_what_it_carries_is_exported() -> None:
    for name, value in vars(fewscan.errors).items():
        if inspect.isclass(value) and value.__module__ == "fewscan.errors":
            assert getattr(fewscan, name) is value


def test_importing_and_listing_and_catching_need_nothing_heavy() -> None:
    code = f"""
import sys, fewscan
dir(fewscan), fewscan.__version__, fewscan.Fault("a", "b", "c")
try:
    raise fewscan.DataError.of("a", "b", "c")
except (fewscan.ConfigError, fewscan.FewscanError):
    pass
print(sorted({HEAVY} & set(sys.modules)))
fewscan.Reporter(quiet=True)
print(sorted({HEAVY} & set(sys.modules)))
"""
    assert python(code) == "[]\n[]\n"


def test_a_name_is_the_one_of_its_module_and_can_be_imported_by_name() -> None:
    code = """
from fewscan import *
from fewscan import Run, train
from fewscan.commands.train import train as same
import fewscan.runs.results
print(train is same, Run is fewscan.runs.results.Run, callable(demo))
"""
    assert python(code) == "True True True\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_two_arguments_by_position_at_most(name: str) -> None:
    parameters = inspect.signature(getattr(fewscan, name)).parameters.values()
    by_position = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    by_keyword = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert len(by_position) in (1, 2)
    assert [*by_position, *by_keyword] == list(parameters)
    assert "reporter" in [p.name for p in by_keyword]


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert fewscan.__version__ == project["version"]


def blocks_of_the_reference(folder: Path) -> list[Path]:
    """The Python that the pages of the reference show, as files."""
    found = []
    for page in ("python", "errors"):
        text = (ROOT / "docs" / "reference" / f"{page}.md").read_text("utf-8")
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)):
            found.append(folder / f"{page}_{number}.py")
            found[-1].write_text(block, "utf-8")
    assert len(found) == 2
    return found


def test_a_user_s_script_is_fully_typed_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import json\n"
        "import fewscan\n"
        "fewscan.trian('a', 'b')\n"
        "fewscan.train('a', 'b', 'supervised')\n"
        "fewscan.train('a', 'b', labeled=1)\n"
        "fewscan.evaluate('a', 'b', rules='lax')\n"
        "run = fewscan.train('a', 'b')\n"
        "run.validation.dice\n"
        "value = json.loads('1')\n"
    )
    right = [ROOT / "tests" / "support" / "user_script.py", *blocks_of_the_reference(tmp_path)]
    # Kept between runs: mypy reads PyTorch once.
    cache = ROOT / ".mypy_cache" / "user_script"
    options = ["--strict", "--disallow-any-expr", "--config-file=", "--cache-dir", str(cache)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *map(str, right), str(wrong)],
        cwd=tmp_path,
        # Found as an installed package is, not as sources of one's own: only so `py.typed` counts.
        env={**os.environ, "PYTHONPATH": str(Path(fewscan.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    found = [line.partition("error: ")[2] for line in done.stdout.splitlines() if ": error: " in line]
    assert [line for line in done.stdout.splitlines() if ".py:" in line and not line.startswith("wrong.py:")] == []
    # Of a function with overloads mypy says which arguments fit none of them.
    no_overload = 'No overload variant of "train" matches argument types "str", "str", '
    expected = (
        "trian",
        f'{no_overload}"str"',
        '"labeled"',
        f'{no_overload}"int"',
        "\"Literal['lax']\"",
        'has no attribute "dice"',
        '"Any"',
    )
    assert len(found) == len(expected), done.stdout + done.stderr
    for error, words in zip(found, expected, strict=True):
        assert words in error

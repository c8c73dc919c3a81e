import subprocess
import sys

import pytest

from fewscan.methods.base import Method, MethodSettings
from fewscan.registry import METHODS, find


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_final_and_their_settings_explained(name):
    kind = find(METHODS, name, "method")
    assert issubclass(kind, Method)
    assert not kind.__subclasses__()
    assert not kind.__abstractmethods__
    assert issubclass(kind.Settings, MethodSettings)
    assert (kind.Settings.model_config["frozen"], kind.Settings.model_config["extra"]) == (True, "forbid")
    assert all(field.description for field in kind.Settings.model_fields.values())
    kind.Settings()


def test_the_command_line_names_all_methods_and_imports_nothing_heavy():
    script = (
        "import sys, typing, fewscan.cli as cli\n"
        "print(typing.get_args(cli.MethodName)[1].help)\n"
        "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in METHODS)

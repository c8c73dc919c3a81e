"""The method and the network of the how-to pages keep their contracts, tested as the pages say."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def run_block(name: str, source: str) -> ModuleType:
    """Make a module of a page's block, importable by its name."""
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, name, "exec"), module.__dict__)
    return module


def contracts_of(page: str, name: str) -> dict[str, type]:
    """The test classes of a page whose first block is the file `name`.py, its second one the test file."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (HOW_TO / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    run_block(name, blocks[0])
    found = run_block(f"test_{name}", blocks[1])
    return {key: thing for key, thing in vars(found).items() if key.startswith("Test")}


CONTRACTS = {**contracts_of("add-a-method.md", "self_training"), **contracts_of("add-a-network.md", "dilated")}
globals().update(CONTRACTS)


def test_the_pages_have_a_test_each() -> None:
    assert set(CONTRACTS) == {"TestSelfTraining", "TestDilated"}

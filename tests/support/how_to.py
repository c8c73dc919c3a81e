"""The blocks of the how-to pages: Python as modules, and shell."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def python_blocks(page: str) -> list[str]:
    """The Python of a page, block by block."""
    return re.findall(r"^```python\n(.*?)^```$", (HOW_TO / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def shell_block(page: str, having: str) -> str:
    """The one shell block of a page that holds a text."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (HOW_TO / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if having in block)
    return found


def run_block(name: str, source: str) -> ModuleType:
    """Make a module of a page's block, importable by its name."""
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, name, "exec"), module.__dict__)
    return module

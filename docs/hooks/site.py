"""What mkdocs asks for while it builds the site: generated tables, and SECURITY.md from the root.

A line `<!-- generated: NAME ARGUMENT -->` of a page becomes a table that is made from the code, so that it cannot go
stale.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]

from command_tables import command_pages  # noqa: E402
from face_tables import error_tree, public_errors, public_functions, raised_by  # noqa: E402
from file_tables import prediction_files, run_files, score_files  # noqa: E402
from setting_tables import all_settings, method_settings  # noqa: E402

MARK = re.compile(r"^<!-- generated: (?P<name>[\w-]+)(?: (?P<argument>\w+))? -->$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside of docs/."""
    files.append(File.generated(config, "SECURITY.md", abs_src_path=str(ROOT / "SECURITY.md")))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put generated tables where a page asks for them."""
    return MARK.sub(_generate, markdown)


def _generate(mark: re.Match[str]) -> str:
    name, argument = mark["name"], mark["argument"]
    if name == "method-settings" and argument:
        return method_settings(argument)
    if name == "settings":
        return all_settings()
    if name == "commands":
        return command_pages()
    if name == "run-files":
        return run_files()
    if name == "score-files":
        return score_files()
    if name == "prediction-files":
        return prediction_files()
    if name == "functions":
        return public_functions()
    if name == "error-tree":
        return error_tree()
    if name == "raises":
        return raised_by()
    if name == "errors":
        return public_errors()
    raise PluginError(f"{mark[0]}: nothing of this name is generated.")

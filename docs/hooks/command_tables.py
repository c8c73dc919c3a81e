"""The reference of the command line in Markdown, from the typer app itself."""

from __future__ import annotations

from typing import Any

import typer

from fewscan.cli import app


def command_pages() -> str:
    """A section for every command, in the order of `fewscan --help`."""
    group: Any = typer.main.get_command(app)
    return "\n\n".join(_section(name, command) for name, command in group.commands.items() if not command.hidden)


def _section(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=f"fewscan {name}")
    usage = " ".join((f"fewscan {name}", *command.collect_usage_pieces(context)))
    parts = [f"## fewscan {name}", command.help.strip(), f"```text\n{usage}\n```"]
    for kind in ("argument", "option"):
        records = [p.get_help_record(context) for p in command.params if p.param_type_name == kind]
        rows = [f"| `{names}` | {_escape(text)} |" for names, text in filter(None, records)]
        if rows:
            parts.append("\n".join([f"| {kind} | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def _escape(text: str) -> str:
    """Help as Markdown: the defaults at its end are no link."""
    return text.replace("[", "\\[").replace("|", "\\|")

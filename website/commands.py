"""The reference of the command line, as Markdown made from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from modelbuilder.cli import app


def commands() -> str:
    """Every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    return "\n".join(line for name, command in group.commands.items() for line in _command(name, command))


def _command(name: str, command: Any) -> Iterator[str]:
    parameters = [one for one in command.params if not one.hidden and one.name != "help"]
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    options = [one for one in parameters if one.param_type_name == "option"]
    words = [one.metavar or one.name.upper() for one in arguments]
    yield f"## {name}"
    yield ""
    yield f"`modelbuilder {' '.join([name, *words])}{' [OPTIONS]' if options else ''}`"
    yield ""
    yield f"{command.help}"
    yield ""
    if parameters:
        yield "| | |"
        yield "|---|---|"
    for one, word in zip(arguments, words, strict=True):
        yield f"| `{word}` | {_cell(one.help)} |"
    for one in options:
        value = "" if one.is_flag else f" {one.metavar or one.name.upper()}"
        names = ", ".join(f"`{text}{value}`" for text in (*one.opts, *one.secondary_opts))
        default = "" if one.is_flag or one.default in (None, ()) else f" (`{one.default}` if not given)"
        yield f"| {names} | {_cell(one.help)}{default} |"
    yield ""


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")

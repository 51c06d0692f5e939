"""A group of commands that are imported when they are called: `token` does not pay for `login`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """Commands by name, with what each does; module `loopback_auth.cli.PREFIX+name` holds it as `command`."""

    def __init__(
        self,
        *arguments: Any,
        table: Mapping[str, str],
        aliases: Mapping[str, str] | None = None,
        prefix: str = "",
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, **settings)
        self._table = table
        self._aliases = aliases or {}
        self._prefix = prefix

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the names, the most used first."""
        return list(self._table)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import and return a command."""
        name = self._aliases.get(name, name)
        if name not in self._table:
            return None
        command = importlib.import_module(f"loopback_auth.cli.{self._prefix}{name}").command
        assert isinstance(command, click.Command)  # noqa: S101 (each module of the table has one)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._table.items()))

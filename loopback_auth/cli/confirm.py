"""What is asked before it is done: yes or no, on a terminal."""

from __future__ import annotations

import click

from loopback_auth.cli import setup
from loopback_auth.errors import ConfigurationError
from loopback_auth.oauth.registration import AuthorizationServer
from loopback_auth.text import printable


def sure(question: str, otherwise: str = "not logged in") -> None:
    """Ask; raises ConfigurationError where the answer is no, and says what that means."""
    if not click.confirm(question, err=True):
        raise ConfigurationError(f"{otherwise}: the answer was no")


def production(server: AuthorizationServer, *, yes: bool) -> None:
    """Ask whether a server that holds real data is meant, unless `yes` says so. Raises ConfigurationError."""
    if not server.production or yes:
        return
    if not setup.may_ask():
        raise ConfigurationError(
            f"--yes is missing: {printable(server.title)} holds real restaurants",
            hint="add --yes, or log in to staging: --server lightspeed-l-staging",
        )
    sure(f"{printable(server.title)} holds a real restaurant's data. Go on?")

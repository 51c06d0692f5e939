"""The machine to run the command on, and the servers to log in to: those of the login's tests."""

from __future__ import annotations

from tests.login.conftest import program, sandbox, server

__all__ = ["program", "sandbox", "server"]

"""The same chain, with a backend in front that keeps secrets in plain text."""

from __future__ import annotations

from tests.system_keyring.chained import Chained, First


class PlainChained(Chained):
    pass


class PlainFirst(First):
    priority = 40

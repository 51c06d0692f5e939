"""The library's chain of backends, in children alone: the library knows every backend that was ever imported."""

from __future__ import annotations

from keyring.backends.chainer import ChainerBackend

from tests.system_keyring.backends import Works


class Chained(ChainerBackend):
    """The library's chain of all that it knows: of these here, the first."""

    priority = 10


class First(Works):
    priority = 30

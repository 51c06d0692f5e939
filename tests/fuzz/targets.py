"""Every parser that is fuzzed, in one table."""

from __future__ import annotations

from typing import Any

from . import answers, configured, machine, protocol, sandboxed, stored, wire
from .target import Target

TARGETS: tuple[Target[Any], ...] = (
    *protocol.TARGETS,
    *answers.TARGETS,
    *wire.TARGETS,
    *stored.TARGETS,
    *configured.TARGETS,
    *machine.TARGETS,
    *sandboxed.TARGETS,
)

"""Every parser that is fuzzed, in one table."""

from __future__ import annotations

from typing import Any

from . import answers, configured, machine, onboarded, protocol, sandboxed, stored, wire
from .target import Target

TARGETS: tuple[Target[Any], ...] = (
    *protocol.TARGETS,
    *answers.TARGETS,
    *wire.TARGETS,
    *stored.TARGETS,
    *configured.TARGETS,
    *onboarded.TARGETS,
    *machine.TARGETS,
    *sandboxed.TARGETS,
)

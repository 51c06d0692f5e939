"""A command that has ended, and what it said."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ended:
    """A command that has ended, off a terminal."""

    status: int
    stdout: str
    stderr: str
    arguments: tuple[str, ...] = ()

    @property
    def errors(self) -> list[str]:
        return re.findall(r"^loopback-auth: error: (.*)$", self.stderr, re.MULTILINE)

    @property
    def hints(self) -> list[str]:
        return re.findall(r"^loopback-auth: hint: (.*)$", self.stderr, re.MULTILINE)

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

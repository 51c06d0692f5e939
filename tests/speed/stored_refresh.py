"""Where the time of a refresh goes: `python -m tests.speed.stored_refresh ROUNDS HOME…`, each home in turns.

Prints a JSON object: for each home a list of rounds, and of each round the seconds of `whole`, `connecting` (from the
proven store to the intent), `exchange` (from the intent to the answer), `synced` (within fsync) and `store`, which is
all the rest; and `fsyncs`, how many. A round that is not counted comes first.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from loopback_auth import config
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.file import FileStore
from loopback_auth.store.journal import FileJournal


class Watch:
    """What one refresh does when: the moments between which it is not at work in the store, and its fsyncs."""

    def __init__(self) -> None:
        self.moments: dict[str, float] = {}
        self.synced: list[float] = []
        self._watch(FileJournal, "prove", lambda _begun, ended: self.moments.update(proven=ended))
        self._watch(FileJournal, "arm", lambda begun, ended: self.moments.update(connected=begun, armed=ended))
        self._watch(FileJournal, "sync", lambda begun, _ended: self.moments.update(answered=begun))
        self._watch(os, "fsync", lambda begun, ended: self.synced.append(ended - begun))

    def _watch(self, owner: Any, name: str, note: Callable[[float, float], None]) -> None:
        work = getattr(owner, name)

        def call(*arguments: Any) -> None:
            begun = time.perf_counter()
            work(*arguments)
            note(begun, time.perf_counter())

        setattr(owner, name, call)

    def round(self, work: Callable[[], object]) -> dict[str, float]:
        self.synced.clear()
        begun = time.perf_counter()
        work()
        parts = {
            "connecting": self.moments["connected"] - self.moments["proven"],
            "exchange": self.moments["answered"] - self.moments["armed"],
            "synced": sum(self.synced),
        }
        whole = time.perf_counter() - begun
        return {"whole": whole, **parts, "store": whole - sum(parts.values()), "fsyncs": len(self.synced)}


def main() -> None:
    rounds, homes = int(sys.argv[1]), sys.argv[2:]
    sources = {home: config.token_source("default", Accounts(FileStore(f"{home}/accounts"))) for home in homes}
    found: dict[str, list[dict[str, float]]] = {home: [] for home in homes}
    watch = Watch()
    for number in range(rounds + 1):
        for home, source in sources.items():
            spent = watch.round(lambda source=source: asyncio.run(source.refresh(force=True)))  # type: ignore[misc]
            if number:
                found[home].append(spent)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

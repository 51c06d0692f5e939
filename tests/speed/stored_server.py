"""The sandbox of `scripts/bench growth`, as a process of its own: `python -m tests.speed.stored_server SECONDS`.

It holds each token answer back for so long. On stdin, a line each: `account FOLDER` stores an account with an expired
access token in a home below that folder, and is answered with the home; `answered` with a JSON list of when token
answers were given since that was asked last, in seconds of the monotonic clock, which all processes share.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

from aiohttp import web

from loopback_auth.sandbox import Sandbox
from loopback_auth.sandbox.server import TOKEN
from tests.faults import machine
from tests.faults.machine import Far, Trial, far_side

answered: list[float] = []


class Noting(Sandbox):
    """A sandbox that knows when it answered."""

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await super()._handle(request)
        if request.path == TOKEN:
            answered.append(time.monotonic())
        return response


def main() -> None:
    with (
        mock.patch.object(machine, "Sandbox", Noting),
        tempfile.TemporaryDirectory(prefix="storedbench-") as folder,
        far_side(Path(folder), faults="slow", slow_seconds=float(sys.argv[1])) as far,
    ):
        print("ready", flush=True)
        for line in sys.stdin:
            what, *rest = line.split()
            if what == "account":
                print(_account(far, Path(*rest)).home, flush=True)
            else:
                print(json.dumps(answered), flush=True)
                answered.clear()


def _account(far: Far, folder: Path) -> Trial:
    """The server has a name of its own: for the sandbox's, a command would look whether it must run one itself."""
    trial = far.account(folder)
    account = trial.stored
    server = replace(account.registration.server, name="bench")
    trial.store.save(replace(account, registration=replace(account.registration, server=server)))
    return trial


if __name__ == "__main__":
    main()

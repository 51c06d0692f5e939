"""A sandbox in a process of its own: `python serving.py FOLDER PORT`, until its standard input ends.

It waits for the port as an embedded one would, and prints its base URL when it holds it.
"""

from __future__ import annotations

import asyncio
import errno
import sys
from pathlib import Path

from loopback_auth.sandbox import Sandbox, SandboxSettings


async def main() -> None:
    sandbox = Sandbox(SandboxSettings(folder=Path(sys.argv[1]), port=int(sys.argv[2])))
    while True:
        try:
            await sandbox.start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            await asyncio.sleep(0.02)
        else:
            break
    print(sandbox.base_url, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await sandbox.stop()


if __name__ == "__main__":
    asyncio.run(main())

"""A network between a client and a server that breaks where a test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Self

from . import wire
from .urls import Server

Verdict = Literal["pass", "cut before", "cut after", "swallow answer"]
"""What happens to a statement.

cut before: the server never sees it, and both sides lose the connection.
cut after: the server has completed it, and both lose the connection before the client has any of the answer.
swallow answer: the server has completed it, and nothing more of that connection reaches the client, which stays open.
"""


class Proxy:
    """A proxy on 127.0.0.1, without TLS, before a cluster or a pooler; it runs from the start, in a thread.

    `on_query` is asked, in that thread, with the text of each statement a client runs, in the simple protocol and in
    the extended one; it may be replaced at any time, and may do anything but call this proxy.
    """

    def __init__(self, server: Server, on_query: Callable[[str], Verdict] = lambda _: "pass") -> None:
        self.on_query = on_query
        self.queries: list[str] = []
        """The statements so far, in their order."""
        self.taken = 0
        """Connections so far."""
        self.withheld = threading.Event()
        """Set once a server has completed something whose answer was kept from the client."""
        self.port = 0
        self._server = server
        self._silent = False
        self._failure: BaseException | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        self._ready.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, **parameters: object) -> str:
        """The address of the server's `url`, through the proxy."""
        return self._server.url(**{"port": self.port, "sslmode": "disable"} | parameters)

    def cut(self) -> None:
        """Break all connections; new ones are taken."""
        self._do(self._cut)

    def silence(self) -> None:
        """From now on the server hears everything and the clients nothing, on connections to come, too."""
        self._do(lambda: setattr(self, "_silent", True))

    def speak(self) -> None:
        """End the silence for connections to come; those that were there are cut, since their answers have holes."""
        self._do(self._cut)
        self._do(lambda: setattr(self, "_silent", False))

    def close(self) -> None:
        """Break all connections and take no more; raises what `on_query` raised."""
        if self._thread.is_alive():
            self._do(self._closing.set)
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _do(self, action: Callable[[], object]) -> None:
        async def do() -> None:
            action()

        asyncio.run_coroutine_threadsafe(do(), self._loop).result()

    # -- in the thread --

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        listening = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        self._ready.set()
        await self._closing.wait()
        listening.close()
        self._cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cut(self) -> None:
        for connection in self._connections:
            connection.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.taken += 1
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        except OSError:  # the server is down, and so seems the proxy
            writer.close()
            return
        connection = _Connection(self, (reader, server_reader), (writer, server_writer))
        self._connections.add(connection)
        if self._closing.is_set():
            connection.cut()
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _verdict(self, text: str) -> Verdict:
        self.queries.append(text)
        try:
            return self.on_query(text)
        except BaseException as failure:
            self._failure = failure
            return "cut before"


class _Connection:
    """One client and its connection to the server."""

    def __init__(
        self,
        proxy: Proxy,
        readers: tuple[asyncio.StreamReader, asyncio.StreamReader],
        writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._from_client, self._from_server = readers
        self._to_client, self._to_server = writers
        self._asked = 1  # ReadyForQuery comes once for the start of a session, then for each Query or Sync
        self._answered = 0
        self._kept_from: int | None = None
        """The number of the first answer that the client does not get."""
        self._cut_after = False

    async def run(self) -> None:
        """Return when either side has ended, or was cut."""
        directions = [asyncio.ensure_future(self._requests()), asyncio.ensure_future(self._answers())]
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        self.cut()
        for each in directions:
            each.cancel()
            with suppress(asyncio.CancelledError, asyncio.IncompleteReadError, OSError):
                await each
        for writer in (self._to_client, self._to_server):
            with suppress(OSError):
                await writer.wait_closed()

    def cut(self) -> None:
        self._to_client.close()
        self._to_server.close()

    async def _requests(self) -> None:
        while (first := await wire.read_first(self._from_client)).code in wire.ENCRYPTION_REQUESTS:
            self._to_client.write(b"N")
        self._to_server.write(first.raw)
        statements = wire.Statements()
        while True:
            message = await wire.read(self._from_client)
            text = statements.run_by(message)
            if text is not None and not self._let_through(self._proxy._verdict(text)):
                return
            self._asked += message.is_answered_by_ready
            self._to_server.write(message.raw)
            await self._to_server.drain()

    def _let_through(self, verdict: Verdict) -> bool:
        if verdict in {"cut after", "swallow answer"} and self._kept_from is None:
            self._kept_from = self._asked + 1  # that of the Query itself, or of the Sync which follows a Bind
            self._cut_after = verdict == "cut after"
        return verdict != "cut before"

    async def _answers(self) -> None:
        while True:
            message = await wire.read(self._from_server)
            from_here = self._kept_from is not None and self._answered + 1 >= self._kept_from
            kept = from_here or self._proxy._silent
            if not kept:
                self._to_client.write(message.raw)
                await self._to_client.drain()
            if message.kind == b"Z":  # ReadyForQuery
                self._answered += 1
                if kept:
                    self._proxy.withheld.set()
                if from_here and self._cut_after:
                    return

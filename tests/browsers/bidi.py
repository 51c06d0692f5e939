"""The client side of WebDriver BiDi: commands out, answers and events in, over one WebSocket."""

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import aiohttp

from .browser import BrowserError

Event = Callable[[str, dict[str, Any]], None]


class BiDi:
    """One connection. Events reach `on_event` in order, before the answers that follow them on the wire."""

    def __init__(self, on_event: Event) -> None:
        self._http = aiohttp.ClientSession()
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None

    async def connect(self, address: str) -> None:
        """Open the connection; `address` is a ws: URL."""
        self._socket = await self._http.ws_connect(address, max_msg_size=0)
        self._reader = asyncio.create_task(self._read(self._socket))

    async def send(self, method: str, parameters: dict[str, Any], within: float = 60) -> dict[str, Any]:
        """Send one command and wait for its answer; raises BrowserError with the browser's own word."""
        if self._socket is None:
            raise BrowserError("not connected", method)
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            await self._socket.send_str(json.dumps({"id": number, "method": method, "params": parameters}))
            async with asyncio.timeout(within):
                message = await answer
        finally:
            del self._waiting[number]
        if message["type"] == "error":
            raise BrowserError(message["error"], f"{method}: {message['message']}")
        result: dict[str, Any] = message["result"]
        return result

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for received in socket:
            message = json.loads(received.data)
            if message["type"] == "event":
                self._on_event(message["method"], message["params"])
            elif (answer := self._waiting.get(message["id"])) and not answer.done():
                answer.set_result(message)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(BrowserError("disconnected", "the browser closed the connection"))

    async def close(self) -> None:
        """Close the connection; a second call does nothing."""
        if self._reader:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._socket:
            await self._socket.close()
        await self._http.close()

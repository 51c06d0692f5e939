"""The sandbox as a server: sockets, certificate, state and endpoints, put together and taken apart again."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from aiohttp import web

from .authorization_endpoint import AuthorizationEndpoint, error_page
from .authorization_server import SandboxAuthorizationServer
from .certificate import certificate_path, open_certificate
from .company import CompanyResource
from .log import LogLine, printable
from .refusals import RequestRefused
from .replies import Reply, Send
from .settings import SandboxSettings
from .sockets import open_loopback
from .start_page import start_page
from .state import State
from .token_endpoint import TokenEndpoint, refuse

Handler = Callable[[web.BaseRequest], Awaitable[Reply]]

AUTHORIZE: Final = "/resto/oauth2/v1/authorize"
SERVER: Final = "loopback-auth-sandbox"
TOKEN: Final = "/resto/oauth2/v1/token"  # noqa: S105 - a path
COMPANY: Final = "/resto/rest/core/company"

# cookies of every program on localhost arrive here too
_LARGEST_HEADER: Final = 64 * 1024
_SHUTDOWN_SECONDS: Final = 0.03
_LEAVING_SECONDS: Final = 0.1

# aiohttp would log request lines, and with them codes
_SILENT: Final = logging.Logger("loopback_auth.sandbox.silent", level=logging.CRITICAL + 1)


class Sandbox:
    """A stand-in for a staging authorization server, on loopback.

    Use it as an async context manager, or with `start` and `stop`, in one event loop. `log` receives one
    `LogLine` for each request, on that loop, before the answer is sent; it must be quick and may not raise.
    `clock` gives Unix seconds. `token_requests` counts the token requests that arrived, whatever became of them,
    by their `grant_type` ("" where none can be read).
    """

    def __init__(
        self,
        settings: SandboxSettings,
        log: Callable[[LogLine], None] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.token_requests: Counter[str] = Counter()
        self._log = log
        self._clock = clock
        self._port = settings.port
        self._state: State | None = None
        self._runner: web.ServerRunner | None = None
        self._routes: Mapping[str, Mapping[str, Handler]] = {}

    @property
    def port(self) -> int:
        """The port in use; the configured one before `start`."""
        return self._port

    @property
    def base_url(self) -> str:
        """The API base, as `http://127.0.0.1:8931/resto/`."""
        return f"{'https' if self.settings.https else 'http'}://127.0.0.1:{self._port}/resto/"

    @property
    def certificate(self) -> Path | None:
        """The certificate of an https sandbox, for use as a client's CA file; None for http."""
        return certificate_path(self.settings.folder) if self.settings.https else None

    def presented(self) -> list[int]:
        """Return how often each refresh token was presented, in the order of their issue.

        All those in the folder are counted, by whichever sandbox. Raises RuntimeError when this one is not running.
        """
        if self._state is None:
            raise RuntimeError("this sandbox is not running")
        return self._state.presented()

    async def start(self) -> None:
        """Bind, open the state file, and serve.

        Raises OSError when the port is taken (EADDRINUSE) on either family or the folder cannot be written,
        and `StateUnusable` when the state file is of another kind or version; nothing stays open then.
        """
        if self._runner is not None:
            raise RuntimeError("this sandbox is running already")
        sockets = open_loopback(self.settings.port, shared=self.settings.shared)
        try:
            self._port = sockets[0].getsockname()[1]
            self._state = state = State(self.settings.folder, self._clock)
            context = None
            if self.settings.https:
                with state.transaction():  # as a lock: one process at a time makes a certificate
                    context = open_certificate(self.settings.folder)
            self._routes = self._make_routes(state)
            self._runner = web.ServerRunner(
                web.Server(
                    self._handle,
                    access_log=None,
                    logger=_SILENT,
                    max_line_size=_LARGEST_HEADER,
                    max_field_size=_LARGEST_HEADER,
                ),
                shutdown_timeout=_SHUTDOWN_SECONDS,
            )
            await self._runner.setup()
            for sock in sockets:
                await web.SockSite(self._runner, sock, ssl_context=context).start()
        except BaseException:
            for sock in sockets:
                sock.close()
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening, close every connection, idle or not, and the state file; twice is harmless."""
        runner, self._runner = self._runner, None
        if runner is not None:
            if self.settings.shared:  # what was sent to us while we leave is still answered; what is new goes to others
                for site in list(runner.sites):
                    await site.stop()
                await asyncio.sleep(_LEAVING_SECONDS)
            await runner.cleanup()
        state, self._state = self._state, None
        if state is not None:
            state.close()

    async def __aenter__(self) -> Sandbox:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    def _make_routes(self, state: State) -> Mapping[str, Mapping[str, Handler]]:
        server = SandboxAuthorizationServer(self.settings, state, self._clock)
        authorization = AuthorizationEndpoint(self.settings, state, server, self._port)
        return {
            "/": {"GET": self._start_page},
            AUTHORIZE: {"GET": authorization.get, "POST": authorization.post},
            TOKEN: {"POST": TokenEndpoint(self.settings, state, server, self.token_requests).post},
            COMPANY: {"GET": CompanyResource(state, server).get},
        }

    async def _start_page(self, request: web.BaseRequest) -> Reply:
        return Reply(start_page(self.settings, self.base_url), "start page shown")

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            reply = await self._route(request)(request)
        except Exception as error:
            # a fault of the sandbox itself: said here, since aiohttp's own log is silent
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            words = f"the sandbox itself failed: {type(error).__name__} at {place}"
            reply = error_page(words, status=500)
        if self._log is not None:
            self._log(
                LogLine(
                    time=self._clock(),
                    method=printable(request.method),
                    path=printable(request.path),
                    status=reply.response.status if reply.response is not None else 0,
                    words=reply.words,
                    ok=reply.ok,
                )
            )
        if reply.response is not None:
            reply.response.headers["Server"] = SERVER
        response = reply.response if reply.send is None else await _sent(request, reply.send)
        if response is not None:
            return response
        if request.transport is not None:
            request.transport.close()
        return web.Response()

    def _route(self, request: web.BaseRequest) -> Handler:
        methods = self._routes.get(request.path)
        if methods is None:
            return _not_found
        return methods.get(request.method) or _wrong_method(methods)


async def _sent(request: web.BaseRequest, send: Send) -> web.StreamResponse | None:
    transport = request.transport
    try:
        return await send()
    except ConnectionError:  # the client went away
        return None
    except asyncio.CancelledError:  # the sandbox stops: a client that does not read would keep the connection open
        if transport is not None:
            transport.abort()
        raise


async def _not_found(request: web.BaseRequest) -> Reply:
    words = f"nothing is at {printable(request.path)}: there are /, {AUTHORIZE}, {TOKEN} and {COMPANY}"
    return error_page(words, status=404)


def _wrong_method(methods: Mapping[str, Handler]) -> Handler:
    allowed = ", ".join(sorted(methods))

    async def answer(request: web.BaseRequest) -> Reply:
        words = f"{printable(request.path)} takes {allowed}, not {printable(request.method)}"
        headers = {"Allow": allowed}
        if request.path == TOKEN:
            return refuse(RequestRefused(words), words, headers, status=405)
        return error_page(words, status=405, headers=headers)

    return answer

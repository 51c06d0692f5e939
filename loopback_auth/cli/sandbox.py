"""`loopback-auth sandbox`: the stand-in authorization server, with its log on the terminal."""

from __future__ import annotations

import asyncio
import errno
import os
import textwrap
import time
from pathlib import Path
from typing import Any, get_args

import click

from loopback_auth import config_file
from loopback_auth.cli import embedded, options, signals, voice
from loopback_auth.errors import ConfigurationError, PortTaken
from loopback_auth.oauth.servers import SANDBOX_PORT
from loopback_auth.redirect.holder import who_holds
from loopback_auth.sandbox import (
    FAULTS,
    Fault,
    FaultGrant,
    LogLine,
    Reuse,
    Sandbox,
    SandboxClient,
    SandboxSettings,
    StateUnusable,
)
from loopback_auth.text import printable


def _faults(*, processed: bool) -> str:
    names = ", ".join(name for name, fault in FAULTS.items() if fault.processed == processed)
    return textwrap.indent(textwrap.fill(names, 74, break_on_hyphens=False), "  ")  # click would break names


EPILOG = f"""\b
Faults after a request was processed:
{_faults(processed=True)}

\b
Faults instead of processing it:
{_faults(processed=False)}
"""


class FaultName(click.Choice[str]):
    """The name of a fault; there are too many of them to list in an error."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return what is wrong with a name."""
        return f"there is no fault called {printable(value, 40)}"


@click.command(short_help="run a stand-in for the authorization server", epilog=EPILOG)
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help=f"Where to listen ({SANDBOX_PORT}).")
@click.option("--https", is_flag=True, help="Serve https, with a self-signed certificate.")
@click.option("--code-lifetime", type=options.Duration(), default=30.0, metavar="TIME", help="Of a code (30s).")
@click.option("--access-token-lifetime", type=options.Duration(), default=3600.0, metavar="TIME", help="(1h)")
@click.option("--state", type=click.Choice(["echo", "drop", "replace"]), default="echo", help="In the redirect.")
@click.option(
    "--grace", type=options.Duration(), default=0.0, metavar="TIME", help="How long a spent refresh token works on."
)
@click.option("--reuse", type=click.Choice(get_args(Reuse)), default="refuse", help="When it comes later.")
@click.option(
    "--fault",
    type=FaultName(get_args(Fault)),
    default="none",
    metavar="NAME",
    help="What the token endpoint does wrong: see below.",
)
@click.option(
    "--fault-grant", type=click.Choice(get_args(FaultGrant)), default="any", help="To token requests of this grant."
)
@click.option("--fault-count", type=click.IntRange(1), metavar="N", help="For the first N of them only.")
@click.option(
    "--redirect-uri", "redirect_uris", multiple=True, metavar="URI", help="Register just this one (repeatable)."
)
@click.option("--client-id", metavar="ID", help="Another client than `sandbox`.")
@click.option("--client-secret-file", type=click.Path(path_type=Path), metavar="FILE", help="Its secret.")
@click.option("-q", "--quiet", is_flag=True, help="No log.")
def command(**flags: Any) -> None:
    """Run a stand-in for Lightspeed L-Series on this computer, to build against until the keys arrive.

    It is as strict as the real server may be, and says in plain words what was wrong with a request.

    \b
    loopback-auth sandbox                             then: login --server sandbox
    loopback-auth sandbox --access-token-lifetime 5s  what a refresh looks like
    loopback-auth sandbox --fault drop --fault-grant refresh_token --fault-count 1
    """
    try:
        settings = SandboxSettings(
            folder=embedded.folder(),
            port=config_file.load().sandbox_port if flags["port"] is None else flags["port"],
            https=flags["https"],
            code_lifetime=flags["code_lifetime"],
            access_token_lifetime=int(flags["access_token_lifetime"]),
            state=flags["state"],
            grace=flags["grace"],
            reuse=flags["reuse"],
            faults=flags["fault"],
            fault_grant=flags["fault_grant"],
            fault_count=flags["fault_count"],
            redirect_uris=flags["redirect_uris"] or None,
            **_client(flags["client_id"], flags["client_secret_file"]),
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    try:
        signals.run(_serve(settings, quiet=flags["quiet"]))
    except signals.Interrupted as stopped:  # the way to stop it: nothing went wrong
        raise signals.Interrupted(stopped.number, "") from None


def _client(client_id: str | None, secret_file: Path | None) -> dict[str, Any]:
    if (client_id is None) != (secret_file is None):
        raise click.UsageError("--client-id and --client-secret-file belong together")
    if client_id is None or secret_file is None:
        return {}
    try:
        secret = secret_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"the file {printable(secret_file)} cannot be read: {reason}") from error
    if not secret:
        raise ConfigurationError(
            f"the file {printable(secret_file)} is empty", hint="it should hold the client's secret"
        )
    return {"clients": (SandboxClient(client_id=client_id, client_secret=secret, name=client_id),)}


async def _serve(settings: SandboxSettings, *, quiet: bool) -> None:
    sandbox = Sandbox(settings, None if quiet else _log)
    try:
        await sandbox.start()
    except StateUnusable as error:
        raise ConfigurationError(f"the sandbox's state cannot be used: {error}") from error
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise ConfigurationError(f"the sandbox cannot run: {os.strerror(error.errno or 0).lower()}") from error
        raise PortTaken(
            f"port {settings.port} is taken by {who_holds(settings.port)}",
            hint="stop that program, or choose another port: --port, and LOOPBACK_AUTH_SANDBOX_PORT for login",
        ) from error
    try:
        voice.note(f"The sandbox is running: {voice.bold(sandbox.base_url)}   Ctrl-C stops it")
        voice.note(f"  log in to it from another terminal:  {_login_command(sandbox)}")
        await asyncio.Event().wait()
    finally:
        await sandbox.stop()


def _login_command(sandbox: Sandbox) -> str:
    """Return what to type to log in to this very sandbox."""
    client_id = sandbox.settings.clients[0].client_id
    if sandbox.certificate is not None:
        return (
            f"loopback-auth login --client-id {printable(client_id)} --ca-file {sandbox.certificate} "
            f"--authorization-endpoint {sandbox.base_url}oauth2/v1/authorize "
            f"--token-endpoint {sandbox.base_url}oauth2/v1/token"
        )
    port = "" if sandbox.port == config_file.load().sandbox_port else f"LOOPBACK_AUTH_SANDBOX_PORT={sandbox.port} "
    client = "" if client_id == "sandbox" else f" --client-id {printable(client_id)}"
    return f"{port}loopback-auth login --server sandbox{client}"


def _log(line: LogLine) -> None:
    when = time.strftime("%H:%M:%S", time.localtime(line.time))
    status = str(line.status) if line.status else "---"
    sign = voice.good("ok") if line.ok else voice.bad("no")
    voice.note(f"{voice.faint(when)} {sign} {line.method:<4} {line.path} {status}  {line.words}")

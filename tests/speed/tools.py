"""The tools that are compared: how each is started for one login, in its documented minimal use."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.speed.far import ROOT
from tests.speed.installed import NotInstalledError, debian_package, node_modules, python_environment
from tests.speed.leftovers import end_all_in

OURS = "loopback-auth"
BARE = "python -c pass"
_PEERS = ROOT / "tests" / "speed" / "peers"
_OPENID_CLIENT = ("openid-client@6.9.0", "oauth4webapi@3.8.8", "jose@6.2.18")
Environment = Mapping[str, str]


@dataclass(frozen=True)
class Occasion:
    """One login that is to be made: where, whom to trust, and a home that is empty."""

    origin: str
    authority: Path
    home: Path
    number: int


def _around_nothing(_occasion: Occasion, environment: Environment) -> AbstractContextManager[Environment]:
    return nullcontext(environment)


@dataclass(frozen=True)
class Tool:
    """How a tool logs in. `around` is what a user has running before; its time is not counted."""

    name: str
    version: str
    command: Callable[[Occasion], list[str]]
    stdin: Callable[[Occasion], bytes] = lambda _occasion: b""
    around: Callable[[Occasion, Environment], AbstractContextManager[Environment]] = _around_nothing


def ours() -> Tool:
    """The real command, as it is installed in `.venv`."""
    return Tool(OURS, importlib.metadata.version("loopback-auth"), our_command)


def our_command(occasion: Occasion) -> list[str]:
    return [
        str(ROOT / ".venv" / "bin" / "loopback-auth"),
        "login",
        "--authorization-endpoint",
        f"{occasion.origin}/authorize",
        "--token-endpoint",
        f"{occasion.origin}/token",
        "--client-id",
        "bench",
        "--token-endpoint-auth-method",
        "none",
        "--redirect-uri",
        "http://127.0.0.1:0/",
        "--ca-file",
        str(occasion.authority),
        "--force",
        "--yes",
        "--print-token",
    ]


def bare_python() -> list[str]:
    return [str(ROOT / ".venv" / "bin" / "python"), "-c", "pass"]


def peers() -> dict[str, Callable[[], Tool]]:
    """Every other tool by name; calling one installs it. Raises NotInstalledError."""
    return {
        "google-auth-oauthlib": lambda: _python_peer("google-auth-oauthlib", "google-auth-oauthlib"),
        "msal": lambda: _python_peer("msal", "msal"),
        "requests-oauthlib recipe": lambda: _python_peer("requests-oauthlib recipe", "requests-oauthlib"),
        "authlib + httpx recipe": lambda: _python_peer("authlib + httpx recipe", "Authlib", "authlib_httpx"),
        "oauth-cli-kit": lambda: _python_peer("oauth-cli-kit", "oauth-cli-kit"),
        "httpx-auth": lambda: _python_peer("httpx-auth", "httpx_auth"),
        "git-credential-oauth": _git_credential_oauth,
        "oidc-agent": _oidc_agent,
        "openid-client": _openid_client,
        "oauth2cli": _oauth2cli,
    }


def _python_peer(name: str, package: str, module: str | None = None) -> Tool:
    module = f"with_{module or package.replace('-', '_')}"
    requirements = _PEERS / f"{module}.txt"
    python = python_environment(module, requirements)
    pinned = dict(line.split("==") for line in requirements.read_text().split())
    command = [str(python), "-m", f"tests.speed.peers.{module}"]
    return Tool(name, pinned[package], lambda occasion: [*command, occasion.origin])


def _openid_client() -> Tool:
    place = node_modules("with_openid_client", list(_OPENID_CLIENT))
    script = shutil.copy(_PEERS / "with_openid_client.mjs", place)
    version = _OPENID_CLIENT[0].rpartition("@")[2]
    return Tool("openid-client", version, lambda occasion: ["node", str(script), occasion.origin])


def _git_credential_oauth() -> Tool:
    if shutil.which("git") is None:
        raise NotInstalledError("no git here")
    root, version = debian_package("git-credential-oauth")

    def stdin(occasion: Occasion) -> bytes:
        settings = {"oauthClientId": "bench", "oauthAuthURL": "/authorize", "oauthTokenURL": "/token"}
        lines = [f'[credential "{occasion.origin}"]', *(f"{name} = {value}" for name, value in settings.items())]
        (occasion.home / ".gitconfig").write_text("\n".join([*lines, ""]))
        return f"protocol=https\nhost={occasion.origin.removeprefix('https://')}\n".encode()

    return Tool(
        "git-credential-oauth", version, lambda _occasion: [str(root / "usr/bin/git-credential-oauth"), "get"], stdin
    )


def _oidc_agent() -> Tool:
    root, version = debian_package("oidc-agent-cli")
    programs = root / "usr" / "bin"
    libraries = os.pathsep.join(sorted({str(one.parent) for one in root.glob("usr/lib/**/*.so.*")}))

    def command(occasion: Occasion) -> list[str]:
        return [
            str(programs / "oidc-gen"),
            "--only-at",
            "--flow=code",
            f"--issuer={occasion.origin}",
            "--client-id=bench",
            "--client-secret=not-a-secret",
            "--scope=openid profile",
            f"--redirect-uri=http://localhost:{4242 + occasion.number}",  # it cannot have one twice within a minute
            f"--cert-path={occasion.authority}",
            "--no-scheme",
            "--prompt=none",
            "bench",
        ]

    @contextmanager
    def around(occasion: Occasion, environment: Environment) -> Iterator[Environment]:
        known = {**environment, "LD_LIBRARY_PATH": libraries}
        said = subprocess.run([programs / "oidc-agent"], env=known, capture_output=True, text=True, check=True).stdout
        assignments = (part.strip() for part in said.split(";"))
        known |= dict(part.split("=", 1) for part in assignments if part.startswith("OIDC") and "=" in part)
        try:
            yield known
        finally:
            end_all_in(occasion.home)

    return Tool("oidc-agent", version, command, around=around)


def _oauth2cli() -> Tool:
    raise NotInstalledError("a Go module; Debian does not package it, and the bench installs no Go")

"""The beginning of a login: what it leaves when it does not get far."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from loopback_auth import clock
from loopback_auth.beginning import begin
from loopback_auth.errors import PortTaken
from loopback_auth.grant import Grant
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.oauth.servers import presets
from loopback_auth.redirect.sockets import listen
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.file import FileStore


def grant(redirect_uri: str = "http://127.0.0.1:0/") -> Grant:
    registration = ClientRegistration(
        server=presets()["sandbox"],
        client_id="sandbox",
        redirect_uri=redirect_uri,
        token_endpoint_auth_method="none",
    )
    return Grant(account="cafe", registration=registration, client_secret=None)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("accounts/cafe/*"))


def test_what_stands_while_the_browser_is_awaited(tmp_path: Path) -> None:
    """The intent is there and the port is ours when the browser is told; the port is let go afterwards."""
    store = Accounts(FileStore(str(tmp_path / "accounts")))
    seen: list[list[str]] = []

    def browser(url: str) -> str:
        seen.append(left(tmp_path))
        assert url.startswith("http://127.0.0.1:")
        return "not here"

    with begin(grant(), store, browser) as beginning:
        assert beginning.opened == "not here"
        assert beginning.listener.sockets[0].getsockname()[1] == beginning.listener.redirect_uri.port
        assert [name.rpartition("-")[2] for name in seen[0]] == ["answer", "intent"]
    assert beginning.listener.sockets[0].fileno() == -1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_beginning_that_is_cut_short(tmp_path: Path, kind: type[BaseException]) -> None:
    """Whatever ends it, before the intent is durable or after the browser was told, nothing of it stays."""

    def stop(*_: object) -> clock.Moment:
        raise kind

    ways: list[dict[str, Callable[..., object]]] = [{"now": stop}, {"browser": stop}]
    for way in ways:
        with pytest.raises(kind), begin(grant(), Accounts(FileStore(str(tmp_path / "accounts"))), **way):  # type: ignore[arg-type]
            pytest.fail("it began")
        assert [name for name in left(tmp_path) if name.startswith("login")] == []


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """A taken port is known before the browser is told, and leaves nothing."""
    sockets = listen("127.0.0.1", 0)
    uri = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/"
    store = Accounts(FileStore(str(tmp_path / "accounts")))
    with pytest.raises(PortTaken), begin(grant(uri), store, lambda _url: pytest.fail("it was told")):
        pytest.fail("it began")
    for each in sockets:
        each.close()
    assert [name for name in left(tmp_path) if name.startswith("login")] == []

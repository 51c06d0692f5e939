"""The bench itself: one login of ours from end to end, over a way without a distance."""

from __future__ import annotations

from pathlib import Path

from tests.speed import tools
from tests.speed.desktop import Desktop
from tests.speed.link import joined
from tests.speed.person import Person
from tests.speed.timed import Failure, Login, environment_of, log_in, measure


def test_a_login_is_measured(tmp_path: Path) -> None:
    """The moments of a login come in their order, on a connection that was made before the redirect."""
    home = tmp_path / "home"
    home.mkdir()
    desktop = Desktop(tmp_path)
    try:
        with joined(tmp_path, 0.0, hold_packets=False) as link:
            authority = link.certificates.authority
            environment = environment_of(desktop, home, authority, LOOPBACK_AUTH_HOME=str(home / "loopback-auth"))
            port = link.open_port()
            person = Person(authority)
            command = tools.our_command(tools.Occasion(f"https://{link.host}:{port}", authority, home, 0))
            login = log_in(command, environment, desktop, person, link, port, thinks=1.0)
            refused = log_in(["false"], environment, desktop, person, link, port)
            bare = measure(tools.bare_python(), environment)
    finally:
        desktop.close()
    assert isinstance(login, Login), login
    assert login.started < login.told < login.redirected < login.requested < login.token <= login.ended
    assert login.redirected - login.told >= 1.0
    assert login.warm
    assert login.connections == 1
    assert isinstance(refused, Failure)
    assert "without opening a browser" in refused.reason
    assert bare is not None
    assert 4_000 < bare.peak_kib < login.peak_kib

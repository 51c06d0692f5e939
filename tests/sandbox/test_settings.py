"""Settings that cannot work are refused at once, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loopback_auth.sandbox import SANDBOX_CLIENT, SandboxClient, SandboxSettings


def test_defaults(tmp_path: Path) -> None:
    """The defaults are a strict server on a fixed port, with one client that everybody knows."""
    settings = SandboxSettings(folder=tmp_path)
    assert (settings.port, settings.https, settings.code_lifetime) == (8931, False, 30)
    assert (settings.access_token_lifetime, settings.state, settings.faults) == (3600, "echo", "none")
    assert (settings.grace, settings.reuse, settings.fault_grant) == (0, "refuse", "any")
    assert settings.clients == (
        SandboxClient(client_id="sandbox", client_secret="sandbox-secret", name="Sandbox application"),
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"port": -1}, "port -1 is not between"),
        ({"port": 65536}, "port 65536 is not between"),
        ({"code_lifetime": 0}, "a lifetime is a positive number"),
        ({"access_token_lifetime": 0}, "a lifetime is a positive number"),
        ({"slow_seconds": -1}, "slow_seconds cannot be negative"),
        ({"trickle_seconds": -1}, "trickle_seconds cannot be negative"),
        ({"retry_after": -1}, "retry_after cannot be negative"),
        ({"grace": -1}, "grace cannot be negative"),
        ({"fault_count": 0}, "fault_count is at least 1"),
        ({"faults": "sometimes"}, "faults is one of none, slow, "),
        ({"fault_grant": "password"}, "fault_grant is one of any, authorization_code, refresh_token"),
        ({"reuse": "ignore"}, "reuse is one of refuse, revoke"),
        ({"state": "keep"}, "state is one of echo, drop, replace"),
        ({"redirect_uris": ()}, "redirect_uris names none"),
        ({"redirect_uris": ("localhost",)}, "redirect URI 'localhost': it must begin with https://"),
        ({"clients": ()}, "at least one client_id"),
        ({"clients": (SANDBOX_CLIENT, SANDBOX_CLIENT)}, "each client_id may occur once"),
        ({"restaurants": ()}, "at least one user_id"),
    ],
)
def test_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """A value that cannot work raises ValueError with words for it."""
    with pytest.raises(ValueError, match=said):
        SandboxSettings(folder=tmp_path, **changes)

"""The flags of `loopback-auth sandbox`, as settings."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from loopback_auth.cli import sandbox
from loopback_auth.sandbox import FAULTS, SandboxSettings


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBACK_AUTH_HOME", str(tmp_path))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[SandboxSettings]:
    """The settings that a command would have served with."""
    found: list[SandboxSettings] = []

    async def serve(settings: SandboxSettings, *, quiet: bool) -> None:
        found.append(settings)

    monkeypatch.setattr(sandbox, "_serve", serve)
    return found


def test_flags(served: list[SandboxSettings]) -> None:
    """Each flag of faults and reuse becomes its setting."""
    flags = "--grace 90s --reuse revoke --fault 503-retry-date --fault-grant refresh_token --fault-count 3"
    sandbox.command.main(flags.split(), standalone_mode=False)
    (settings,) = served
    assert (settings.grace, settings.reuse) == (90, "revoke")
    assert (settings.faults, settings.fault_grant, settings.fault_count) == ("503-retry-date", "refresh_token", 3)


def test_no_flags(served: list[SandboxSettings], tmp_path: Path) -> None:
    """Without flags the settings are the default ones."""
    sandbox.command.main([], standalone_mode=False)
    assert served == [SandboxSettings(folder=tmp_path / "sandbox")]


def test_unknown_fault(served: list[SandboxSettings]) -> None:
    """A fault that is not known is refused by name."""
    with pytest.raises(click.BadParameter) as raised:
        sandbox.command.main(["--fault", "nonsense"], standalone_mode=False)
    assert raised.value.format_message() == "Invalid value for '--fault': there is no fault called nonsense"
    assert not served


@pytest.mark.parametrize("columns", [80, 102])
def test_help_lists_the_faults(capsys: pytest.CaptureFixture[str], columns: int) -> None:
    """The help names every fault, none of them broken in two, in lines that fit."""
    sandbox.command.main(["--help"], standalone_mode=False, terminal_width=columns - 2)
    shown = capsys.readouterr().out
    listed = shown.partition("Faults after")[2]
    assert set(FAULTS) <= set(listed.replace(",", " ").split())
    assert max(map(len, listed.splitlines())) < columns

"""`onboard` with real browsers: windows of their own, people who do all sorts of things, and nothing left behind."""

from __future__ import annotations

import json
import shlex
import signal

import pytest

from ..login.program import Program
from .conftest import Onboarder
from .people import People, command

KINDS = ("chromium", "firefox")
LONG = 120.0
"""Seconds for several windows, on a machine that does other things too."""


def manifest(onboarder: Onboarder, *numbers: int) -> None:
    onboarder.write(*(f"r{n},sandbox,{5000 + n},restaurant-{n}," for n in numbers))


def windows(program: Program) -> People:
    return People(program.home / "windows")


@pytest.mark.parametrize("kind", KINDS)
async def test_people_at_real_browsers(onboarder: Onboarder, kind: str) -> None:
    """Each account gets its own company, in a window without an earlier login; Deny, lies, closed windows are told."""
    manifest(onboarder, 1, 2, 3, 4, 5)
    program = onboarder.program
    people = windows(program)
    people.habits = {
        "restaurant-1": "deny",
        "restaurant-2": "mistype",
        "restaurant-3": "lie",
        "restaurant-4": "close",
    }
    flags = ("--browser", shlex.join(command(kind)), "--json", "--timeout", "60s")
    async with people.at_work():
        ended = await program.run("onboard", "accounts.csv", *flags, within=LONG)
    rows = json.loads(ended.stdout)
    assert [row["state"] for row in rows] == ["denied", "done", "wrong account", "window closed", "done"], ended.stderr
    assert [row["company"] and row["company"]["id"] for row in rows] == [None, "5002", "4711", None, "5005"]
    assert ended.status == 7
    assert all("Log in to your restaurant" in sitting.first_page for sitting in people.sittings), people.sittings
    assert not list((program.home / "windows").glob("window-*"))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_power_cut_with_windows_open(onboarder: Onboarder, kind: str) -> None:
    """A killed run leaves windows open; the next one ends them, deletes their profiles, does what is missing."""
    manifest(onboarder, 1, 2)
    program = onboarder.program
    people = windows(program)
    flags = ("--browser", shlex.join(command(kind)), "--timeout", "60s")
    async with people.at_work(), program.start("onboard", "accounts.csv", *flags) as running:
        await running.says("r1: done")
        running.send_signal(signal.SIGKILL)
        await running.process.wait()
    async with people.at_work():
        ended = await program.run("onboard", "accounts.csv", *flags, within=LONG)
    assert ended.status == 0, ended.stderr
    assert [program.tokens(name).members["company"]["id"] for name in ("r1", "r2")] == ["5001", "5002"]
    assert program.tokens("r1").members["generation"] == 1
    assert not list((program.home / "windows").glob("window-*"))


@pytest.mark.parametrize("kind", KINDS)
async def test_an_https_redirect_does_not_warn(onboarder: Onboarder, kind: str) -> None:
    """With an https redirect our windows take our own leaf: the person meets no warning."""
    program = onboarder.program
    program.home.mkdir(mode=0o700)
    (program.home / "config.toml").write_text(
        f"[clients.tls]\nserver = 'sandbox'\nredirect_uri = 'https://localhost:{program.free_port()}/'\n"
    )
    onboarder.write("r1,tls,5001,restaurant-1,")
    people = windows(program)
    async with people.at_work():
        ended = await program.run(
            "onboard", "accounts.csv", "--browser", shlex.join(command(kind)), "--timeout", "60s", within=LONG
        )
    assert ended.status == 0, (ended.stderr, people.sittings)
    assert [sitting.trouble for sitting in people.sittings] == [None]

"""Logged in to another restaurant than the account's: nothing is stored, unless it was meant."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .machine import Machine, SandboxProcess, allowed, redirect_of
from .ptys import Pty

Sandboxes = Callable[..., SandboxProcess]


def login(machine: Machine, *arguments: str) -> tuple[Pty, str]:
    terminal = machine.pty("login", "--server", "sandbox", "--no-browser", "--timeout", "15s", *arguments)
    return terminal, terminal.says(r"(http://\S+/start/[\w-]+)")[1]


@pytest.fixture
def roma(machine: Machine, sandboxes: Sandboxes) -> bytes:
    """What is stored of Cafe Roma's login, whose access token is too short to spare the next login its browser."""
    machine.at(sandboxes("--access-token-lifetime", "50s"))
    assert machine.log_in("--server", "sandbox").status == 0
    return machine.tokens().read_bytes()


def test_other_restaurant_under_this_name(machine: Machine, roma: bytes) -> None:
    """Another restaurant under an existing name: 7, the old tokens stay and work, terminal and page say so."""
    terminal, start = login(machine)
    walker = allowed(start, "bistro-lyon").follow()
    assert "This is another account" in walker.text
    assert walker.status in {200, 403, 409}
    assert terminal.end() == 7
    assert "you logged in to Bistro Lyon (company 4712), and account default is for company 4711" in terminal.text
    assert "loopback-auth login NAME" in terminal.text
    assert "--force" in terminal.text
    assert machine.tokens().read_bytes() == roma
    refreshed = machine.run("refresh", "--force", "--json")
    assert (refreshed.status, refreshed.json["company"]["name"]) == (0, "Cafe Roma")


def test_other_restaurant_by_paste(machine: Machine, roma: bytes) -> None:
    """A paste is judged alike."""
    terminal, _ = login(machine)
    authorization = terminal.says(r"(http://\S+/authorize\?\S+)")[1]
    terminal.until(lambda: not terminal.echoes, "pastes are not echoed")
    terminal.paste(redirect_of(authorization, "bistro-lyon"))
    assert terminal.end() == 7
    assert machine.tokens().read_bytes() == roma


def test_force_replaces(machine: Machine, roma: bytes) -> None:
    """With --force the other restaurant takes the account's place, and the generations go on."""
    terminal, start = login(machine, "--force")
    assert "You are logged in" in allowed(start, "bistro-lyon").follow().text
    assert terminal.end() == 0
    described = machine.run("status", "default", "--json").json
    assert (described["company"]["id"], described["generation"]) == ("4712", 2)


def test_same_restaurant_again(machine: Machine, roma: bytes) -> None:
    """The same restaurant logs in again without a question."""
    terminal, start = login(machine)
    allowed(start).follow()
    assert terminal.end() == 0
    assert machine.tokens().read_bytes() != roma


def test_under_a_name_of_its_own(machine: Machine, roma: bytes) -> None:
    """Under another name the other restaurant is stored beside the first."""
    terminal, start = login(machine, "lyon")
    allowed(start, "bistro-lyon").follow()
    assert terminal.end() == 0
    assert machine.tokens().read_bytes() == roma
    assert machine.run("status", "lyon", "--json").json["company"]["id"] == "4712"


@pytest.mark.parametrize(("written", "expected"), [("4712", 0), ('"4712"', 0), ("4711", 7), ('"04712"', 7)])
def test_company_id_of_config(machine: Machine, sandbox: SandboxProcess, written: str, expected: int) -> None:
    """`company_id` in the config, a number or text, is what a first login is held to."""
    machine.configure(f'[clients.c]\nserver = "sandbox"\n[accounts.lyon]\nclient = "c"\ncompany_id = {written}\n')
    ended = machine.log_in("lyon", user="bistro-lyon")
    assert ended.status == expected, ended.stderr
    assert machine.tokens("lyon").exists() is (expected == 0)


def test_config_wins_over_what_is_stored(machine: Machine, roma: bytes) -> None:
    """A `company_id` that was changed in the config is the one that counts, and --force overrides even that."""
    machine.configure('[clients.c]\nserver = "sandbox"\n[accounts.default]\nclient = "c"\ncompany_id = 4713\n')
    assert machine.log_in(user="cafe-roma").status == 7
    assert machine.tokens().read_bytes() == roma
    assert machine.log_in(user="trattoria-napoli").status == 0
    assert machine.log_in("--force", user="cafe-roma").status == 0


def test_other_client_under_this_name(machine: Machine, sandbox: SandboxProcess, roma: bytes) -> None:
    """Another client under an existing name: asked on a terminal, refused with 3 elsewhere and with --yes."""
    flags = ["login", "--server", "lightspeed-l-staging", "--client-id", "other", "--client-secret-file", "/dev/null"]
    for more in ([], ["--yes"]):
        ended = machine.run(*flags, *more)
        assert ended.status == 3
        assert "account default belongs to client sandbox at sandbox" in ended.errors[0]
    terminal = machine.pty(*flags)
    terminal.answer(r"Account default belongs to client sandbox at sandbox\. Replace it\?", "n")
    assert terminal.end() == 3
    assert machine.tokens().read_bytes() == roma

"""The house as the README draws it: every file has its room, and imports go where the table lets them."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import pytest

from loopback_auth import clock, config, config_file
from loopback_auth.cli.commands import group
from loopback_auth.cli.report import describe
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.oauth.servers import presets
from loopback_auth.oauth.token import TokenSet
from loopback_auth.secret import Secret
from loopback_auth.standing import Standing
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account
from loopback_auth.store.file import FileStore

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "loopback_auth"
README = (ROOT / "README.md").read_text("utf-8")
MODULES = sorted(PACKAGE.rglob("*.py"))
IO = {
    "asyncio",
    "aiohttp",
    "socket",
    "ssl",
    "os",
    "pathlib",
    "time",
    "datetime",
    "random",
    "secrets",
    "logging",
    "subprocess",
}


def rooms() -> dict[str, set[str]]:
    """Room → the rooms it may use, from the architecture table."""
    table = README.split("## Architecture")[1].split("## ")[0]
    found = {}
    for name, uses in re.findall(r"^\| `([\w./]+)` \| [^|]+ \| ([^|]*)\|$", table, re.MULTILINE):
        found[room_name(name)] = {use.strip() for use in uses.split(",") if use.strip()}
    return found


def room_name(path: str) -> str:
    return path.removesuffix("/").removesuffix(".py")


def room_of(module: Path) -> str:
    return room_name(module.relative_to(PACKAGE).parts[0])


def imports(module: Path) -> Iterator[str]:
    """Every module that is imported anywhere in the file, in functions and under TYPE_CHECKING too."""
    package = ("loopback_auth", *module.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*package[: len(package) - node.level + 1], node.module or ""]) if node.level else node.module
            )
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms_used(module: Path) -> set[str]:
    own = [name.split(".")[1] for name in imports(module) if name.startswith("loopback_auth.")]
    return {name for name in own if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()} - {room_of(module)}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_table(module: Path) -> None:
    """A module stands in a room of the table and uses only the rooms which that row names."""
    allowed = rooms()
    assert room_of(module) in allowed
    if allowed[room_of(module)] != {"everything"}:
        assert rooms_used(module) <= allowed[room_of(module)]


def test_every_row_has_its_room() -> None:
    """A row of the table stands for a file or folder that is there."""
    assert set(rooms()) == {room_of(module) for module in MODULES}


def test_imports_go_one_way() -> None:
    """A room uses only rooms that stand above it in the table."""
    above: set[str] = set()
    for room, uses in rooms().items():
        assert uses <= above | {"everything"}, room
        above.add(room)


def test_only_the_command_line_imports_the_sandbox() -> None:
    """The stand-in server and the client share no code in either direction."""
    users = {room_of(module) for module in MODULES if "sandbox" in rooms_used(module)}
    assert users == {"cli"}
    assert all(not rooms_used(module) for module in MODULES if room_of(module) == "sandbox")


@pytest.mark.parametrize("module", sorted((PACKAGE / "oauth").glob("*.py")), ids=lambda path: path.name)
def test_the_protocol_is_pure(module: Path) -> None:
    """Nothing under oauth/ imports a clock, randomness, files, sockets or logging."""
    assert not {name.split(".")[0] for name in imports(module)} & IO


def test_only_the_command_line_knows_click() -> None:
    """A library module neither prints nor exits."""
    users = {room_of(module) for module in MODULES if any(name.split(".")[0] == "click" for name in imports(module))}
    assert users == {"cli"}
    for module in MODULES:
        if room_of(module) != "cli":
            assert "sys.exit" not in module.read_text("utf-8")


def test_help_in_the_readme_is_the_real_one() -> None:
    """Each `--help` block of the README equals what the command prints at 100 columns."""
    blocks = re.findall(r"\$ loopback-auth ((?:\w+ )?--help)\n(.*?)```", README, re.DOTALL)
    assert blocks
    for arguments, shown in blocks:
        environment = {**os.environ, "COLUMNS": "102"}
        command = [sys.executable, "-m", "loopback_auth", *arguments.split()]
        printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert printed == shown


def helps(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """The help of a command, and of every command below it, as an 80-column terminal shows it."""
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from helps(below, click.Context(below, context, name, terminal_width=80))


def test_help_fits_eighty_columns() -> None:
    """No line of any help is wider than the terminal that most people have; examples are not broken by click."""
    shown = list(helps(group, click.Context(group, info_name="loopback-auth", terminal_width=80)))
    assert len(shown) > 15
    assert [(path, line) for path, text in shown for line in text.splitlines() if len(line) > 80] == []


def test_the_configuration_in_the_readme_is_valid(tmp_path: Path) -> None:
    """The complete example of the README is read without complaint, and every key in it means something."""
    (example,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "config.toml").write_text(example)
    read = config_file.load({"LOOPBACK_AUTH_HOME": str(tmp_path)})
    assert set(read.clients) == {"acme-staging", "other"}
    assert read.server("my-idp").issuer == tomllib.loads(example)["servers"]["my-idp"]["issuer"]
    registration, reference = config.registration(config.Wanted(), read, "cafe-roma", None)
    assert registration.client_id == "YOUR-CLIENT-ID"
    assert reference is not None
    assert list(reference) == ["file"]


def test_the_json_in_the_readme_is_the_real_one(tmp_path: Path) -> None:
    """The keys that the README documents are the keys that are printed."""
    table = README.split("take `--json`:")[1].split("`status --json` is a list")[0]
    documented = {
        key for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)
    }
    server = presets()["sandbox"]
    registration = ClientRegistration(
        server=server, client_id="sandbox", redirect_uri="http://127.0.0.1:0/", token_endpoint_auth_method="none"
    )
    account = Account(
        name="default",
        registration=registration,
        client_secret=None,
        tokens=TokenSet(Secret("a"), None, 60, None),
        generation=1,
        logged_in_at=0.0,
        refresh_token_at=0.0,
        received=clock.now(),
    )
    printed = json.loads(
        json.dumps(describe(account, Standing(state="ok"), Accounts(FileStore(str(tmp_path))), clock.now()))
    )
    assert documented == set(printed)


def test_exit_statuses_in_the_readme_are_the_real_ones() -> None:
    """Every exit status an error can end in has its row."""
    from loopback_auth import errors

    table = README.split("## Exit statuses")[1].split("## ")[0]
    documented = {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    raised = {
        kind.exit_status
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.LoopbackAuthError)
    }
    assert raised <= documented


def test_dependencies_in_the_readme_are_the_real_ones() -> None:
    """Names, floors and licences are those of pyproject.toml and of what is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [each for extra in project["optional-dependencies"].values() for each in extra]
    declared = dict(re.split(r"(?:\[\w+\])?>=", each) for each in (*project["dependencies"], *optional))
    table = README.split("## Licence")[1]
    rows = re.findall(r"^\| (\w+)(?: \(.*?\))? \| ([\d.]+) \| (.+?) \|", table, re.MULTILINE)
    assert {name: floor for name, floor, _ in rows} == declared
    for name, _, licence in rows:
        with contextlib.suppress(metadata.PackageNotFoundError):  # an extra
            of = metadata.metadata(name)
            assert licence == of["License-Expression" if "License-Expression" in of else "License"], name

"""`--store`, and what every test of the suite is given."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopback_auth.store.base import Store
from tests.conformance.place import NotPossible, Place, place_called
from tests.conformance.process import Nursery, Process
from tests.faults.machine import Far, far_side

STORES = (
    "tests.conformance.project:FilePlace",
    "tests.conformance.project:SealedPlace",
    "tests.conformance.example:ExamplePlace",
    "tests.postgresql.place:PostgreSQLPlace",
    "tests.system_keyring.place:KeyringPlace",
)
"""Those that are checked where `--store` names no other."""
logging.getLogger("authlib").setLevel(logging.WARNING)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        action="append",
        metavar="MODULE:PLACE",
        help="a store to check, by its place, see tests/conformance/place.py (repeatable)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "nursery" in metafunc.fixturenames:
        stores = metafunc.config.getoption("--store", default=None) or STORES  # unknown unless this folder was named
        metafunc.parametrize("nursery", stores, indirect=True, scope="session", ids=lambda name: name.split(":")[1])


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Iterator[None]:
    """Skip what a place cannot do to its store."""
    try:
        return (yield)
    except NotPossible:
        pytest.skip("its place cannot do that")


Kind = tuple[type[Place], Nursery]


@pytest.fixture(scope="session")
def nursery(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    """The place's class, and who makes processes for it."""
    kind = place_called(request.param)
    with kind.session(tmp_path_factory.mktemp("session")), Nursery(request.param) as nursery:
        yield kind, nursery


@pytest.fixture
def place(nursery: Kind, tmp_path: Path) -> Iterator[Place]:
    folder = tmp_path / "place"
    folder.mkdir(mode=0o700)
    place = nursery[0](folder)
    yield place
    place.close()


@pytest.fixture
def store(place: Place) -> Store:
    """The store, opened in this process."""
    return place.open()


Start = Callable[..., Process]


@pytest.fixture
def start(nursery: Kind, place: Place) -> Iterator[Start]:
    """Returns another process with the store open; all are killed in the end."""
    started: list[Process] = []

    def start(machine: str = "one") -> Process:
        started.append(nursery[1].process(place.folder, machine))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="session")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """A sandbox as strict as the real server may be: a refresh token works once."""
    with far_side(tmp_path_factory.mktemp("sandbox")) as far:
        yield far


@pytest.fixture(scope="session")
def forgiving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """A sandbox that answers a spent refresh token for another 60 seconds."""
    with far_side(tmp_path_factory.mktemp("sandbox"), grace=60) as far:
        yield far

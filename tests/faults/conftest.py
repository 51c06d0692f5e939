"""Fixtures of the fault suite."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.machine import Far, far_side
from tests.faults.worker import Worker

logging.getLogger("authlib").setLevel(logging.WARNING)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """A sandbox as strict as the real server may be: a refresh token works once."""
    with far_side(tmp_path_factory.mktemp("sandbox")) as far:
        yield far


@pytest.fixture(scope="module")
def forgiving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """A sandbox that answers a spent refresh token for another 60 seconds."""
    with far_side(tmp_path_factory.mktemp("sandbox"), grace=60) as far:
        yield far


@pytest.fixture
def sealed(far: Far) -> Iterator[Far]:
    """`far`, with each account in a sealed store."""
    far.seals = True
    yield far
    far.seals = False


@pytest.fixture(params=["far", "sealed"], ids=["plain", "sealed"])
def either(request: pytest.FixtureRequest) -> Far:
    """Accounts in clear, and sealed."""
    far = request.getfixturevalue(request.param)
    assert isinstance(far, Far)
    return far


@pytest.fixture
def homes(tmp_path: Path) -> Path:
    return tmp_path

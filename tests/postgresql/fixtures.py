"""Fixtures: a real PostgreSQL for all tests of a worker, a database of each test's own, what may be broken.

Import them in a conftest.py. Tests that want other settings override `cluster_settings`:

    @pytest.mark.parametrize("cluster_settings", [{"log_statement": "all", "fsync": True}])
    def test_statements(own_cluster: Cluster) -> None: ...
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from .cluster import Cluster, Database
from .home import Home, ProgramMissing, find
from .pooler import Pooler
from .proxy import Proxy

__all__ = ["cluster_settings", "database", "own_cluster", "pooler", "postgresql", "proxy"]

Made = TypeVar("Made")
_SHARED = pytest.StashKey[Cluster]()
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql(pytestconfig: pytest.Config) -> Cluster:
    """A cluster that runs; one in a worker, however many conftests import this, so tests leave it as it was."""
    if _SHARED not in pytestconfig.stash:
        home = or_skip(Home)
        pytestconfig.add_cleanup(home.close)
        cluster = Cluster(home)
        cluster.start()
        pytestconfig.stash[_SHARED] = cluster
    return pytestconfig.stash[_SHARED]


@pytest.fixture
def database(postgresql: Cluster) -> Iterator[Database]:
    """A new database of that cluster."""
    made = postgresql.create_database(f"test_{next(_NUMBERS)}")
    yield made
    made.drop()


@pytest.fixture
def cluster_settings() -> dict[str, Any]:
    """The settings of a test's own cluster."""
    return {}


@pytest.fixture
def own_cluster(postgresql: Cluster, cluster_settings: dict[str, Any]) -> Iterator[Cluster]:
    """A cluster that runs and is this test's own: to be killed, stopped, made read-only."""
    with postgresql.another(**cluster_settings) as cluster:
        yield cluster


@pytest.fixture
def pooler(postgresql: Cluster) -> Iterator[Pooler]:
    """PgBouncer in transaction mode before the cluster of all tests, with one connection for each role and database."""
    or_skip(lambda: find("pgbouncer"))
    with Pooler(postgresql) as started:
        yield started


@pytest.fixture
def proxy(postgresql: Cluster) -> Iterator[Proxy]:
    """A proxy before the cluster of all tests, which lets all pass until the test says otherwise."""
    with Proxy(postgresql) as started:
        yield started


def or_skip(make: Callable[[], Made]) -> Made:
    """Make what needs a program; without it, skip the test on a person's machine and fail it in CI."""
    try:
        return make()
    except ProgramMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))

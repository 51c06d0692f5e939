from tests.faults.conftest import far, forgiving

from .fixtures import cluster_settings, database, own_cluster, pooler, postgresql, proxy

__all__ = ["cluster_settings", "database", "far", "forgiving", "own_cluster", "pooler", "postgresql", "proxy"]

from .fixtures import cluster_settings, database, own_cluster, pooler, postgresql, proxy

__all__ = ["cluster_settings", "database", "own_cluster", "pooler", "postgresql", "proxy"]

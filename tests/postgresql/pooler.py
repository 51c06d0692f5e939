"""PgBouncer in transaction mode before a cluster."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from typing import Self

from .cluster import PATIENCE, Cluster, free_port
from .home import find
from .urls import SUPERUSER


class Pooler:
    """A pooler on 127.0.0.1 that knows all databases and passwords of its cluster; a new one is not started yet.

    Each pair of role and database has `pool_size` connections to the cluster, which transactions of all clients share.
    """

    def __init__(self, cluster: Cluster, pool_size: int = 1, **settings: str | int) -> None:
        self.cluster = cluster
        self.port = free_port()
        self._home = cluster.home
        self._folder = cluster.home.make_folder()
        self._process: subprocess.Popen[bytes] | None = None
        known = self._folder / "userlist.txt"
        self._home.write(known, f'"{SUPERUSER}" "{self._home.superuser_password}"\n')
        all_settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": known,
            "auth_user": SUPERUSER,  # asks the cluster for the passwords of all others
            "pool_mode": "transaction",
            "default_pool_size": pool_size,
            "server_login_retry": 0.1,  # else, when the cluster is back, it is noticed after 15 seconds
            "client_tls_sslmode": "allow",
            "client_tls_cert_file": self._home.certificate_file,
            "client_tls_key_file": self._home.key_file,
            **settings,
        }
        lines = [f"{name} = {value}" for name, value in all_settings.items()]
        databases = ["[databases]", f"* = host={cluster.folder} port={cluster.port}"]
        self._home.write(self._folder / "pgbouncer.ini", "\n".join([*databases, "[pgbouncer]", *lines, ""]))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()

    def url(self, **parameters: object) -> str:
        """The address of the cluster's `url`, through the pooler."""
        return self.cluster.url(**{"port": self.port} | parameters)

    def start(self) -> None:
        """Return when connections are accepted."""
        assert self._process is None or self._process.poll() is not None
        self._process = self._home.start(
            find("pgbouncer"), self._folder / "pgbouncer.ini", folder=self._folder, log=self._folder / "log"
        )
        deadline = time.monotonic() + PATIENCE
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the pooler does not start: {self.log()[-2000:]}")
            time.sleep(0.005)

    def stop(self) -> None:
        """End it by its own way, at once; clients are cut."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)

    def kill(self) -> None:
        """End it without its doing anything."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        """All it has written since it was made."""
        return (self._folder / "log").read_text(errors="replace")

    def _is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

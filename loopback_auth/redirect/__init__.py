"""Catching the redirect: sockets, the temporary server, its certificate and pages, and the browser."""

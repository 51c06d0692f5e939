"""The page at `/`: what this server is, and how to use it."""

from __future__ import annotations

from aiohttp import web

from .authorization_endpoint import restaurant_list
from .rendering import Markup, fragment, joined, page
from .settings import SANDBOX_CLIENT, SandboxClient, SandboxSettings


def start_page(settings: SandboxSettings, base_url: str) -> web.Response:
    """Return the page; only the secret that everybody knows is shown."""
    body = fragment(
        "start",
        base_url=base_url,
        clients=joined(_client(client) for client in settings.clients),
        restaurants=restaurant_list(settings),
        code_lifetime=f"{settings.code_lifetime:g}",
    )
    return page("Sandbox", body)


def _client(client: SandboxClient) -> Markup:
    secret = client.client_secret if client == SANDBOX_CLIENT else "as configured"
    return fragment("client", application=client.name, client_id=client.client_id, client_secret=secret)

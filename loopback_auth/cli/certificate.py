"""`loopback-auth certificate`: show, renew, trust and untrust the self-signed leaf of https redirects."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopback_auth import folders
from loopback_auth.cli import voice
from loopback_auth.errors import ConfigurationError

if TYPE_CHECKING:
    from loopback_auth.redirect.certificate import Leaf


@click.command(short_help="show, renew or trust the certificate of https redirects")
@click.argument("what", type=click.Choice(["show", "renew", "trust", "untrust"]), default="show")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout, with show.")
def command(what: str, as_json: bool) -> None:
    """Show the self-signed certificate of https redirects to localhost, or change it.

    \b
    show     where it is, for how long, its fingerprint, where it is trusted
    renew    make a new one now; it is trusted where the old one was
    trust    let this user's Chromium and Chrome take it without a warning
    untrust  take that back

    It is a certificate for this computer alone, and no certificate authority: to trust it opens nothing else.
    """
    folder = Path(folders.data(), "certificate")
    if as_json and what != "show":
        raise click.UsageError("--json is for show")
    {"show": lambda: _show(folder, as_json), "renew": lambda: _renew(folder), "trust": lambda: _trust(folder),
     "untrust": lambda: _untrust(folder)}[what]()  # fmt: skip


def _show(folder: Path, as_json: bool) -> None:
    from loopback_auth.redirect.certificate import Leaf

    leaf = Leaf.read(folder)
    if leaf is None:
        voice.note("There is no certificate yet. A login with an https redirect URI makes it, or:")
        voice.note("  loopback-auth certificate trust")
        if as_json:
            click.echo("null")
        return
    places, why = _trusted_in(leaf)
    days = (leaf.not_after - datetime.datetime.now(datetime.UTC)).days
    if as_json:
        about = {
            "path": str(leaf.path),
            "names": leaf.names,
            "expires_at": int(leaf.not_after.timestamp()),
            "days_left": days,
            "sha256_fingerprint": leaf.fingerprint,
            "public_key_pin": leaf.public_key_pin,
            "trusted_in": places,
        }
        click.echo(json.dumps(about, indent=2))
        return
    click.echo(f"certificate: {leaf.path}")
    click.echo(f"names:       {', '.join(leaf.names)}")
    left = f"{days} days left" if days >= 0 else "expired: the next login makes a new one"
    click.echo(f"valid until: {leaf.not_after:%Y-%m-%d} ({left})")
    click.echo(f"SHA-256:     {leaf.fingerprint}")
    click.echo(f"key pin:     {leaf.public_key_pin}")
    click.echo(f"trusted in:  {why if places is None else ', '.join(places) or 'no place that this program knows'}")


def _trusted_in(leaf: Leaf) -> tuple[list[str] | None, str]:
    """Where it is trusted; or None, and why that is not known."""
    from loopback_auth.redirect import trust

    try:
        return trust.trusted_in(leaf.path), ""
    except ConfigurationError as error:
        return None, f"not known: {error}"


def _renew(folder: Path) -> None:
    from loopback_auth.redirect import trust
    from loopback_auth.redirect.certificate import Leaf, renew

    old = Leaf.read(folder)
    places, _why = _trusted_in(old) if old is not None else ([], "")
    new = renew(folder)
    voice.note(f"A new certificate is in {new}. Logins that are under way go on with the old one.")
    if places:
        voice.note(f"It is trusted in the place of the old one: {', '.join(trust.trust(new))}")
    elif places is None:
        voice.warning("whether the old certificate was trusted is not known: certutil is missing")


def _trust(folder: Path) -> None:
    from loopback_auth.redirect import trust
    from loopback_auth.redirect.certificate import own_leaf

    leaf, _made = own_leaf(folder)
    voice.note(f"Trusted: {leaf}, in {', '.join(trust.trust(leaf))}")
    voice.note("Chromium and Chrome take it from their next start on. Firefox keeps a list of its own: it asks")
    voice.note("once per profile, and remembers the answer.")


def _untrust(folder: Path) -> None:
    from loopback_auth.redirect import trust
    from loopback_auth.redirect.certificate import Leaf

    leaf = Leaf.read(folder)
    places = trust.untrust(leaf.path if leaf is not None else None)
    voice.note(f"No longer trusted in {', '.join(places)}" if places else "It was trusted in no place: nothing to do.")

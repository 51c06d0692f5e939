"""What `onboard` does with its list: checked whole against what is configured and stored, then run, then reported."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loopback_auth import clock, config_file, folders, stores
from loopback_auth.catching import Catches
from loopback_auth.cli import confirm, embedded, login_words, report, signals, tls, voice
from loopback_auth.cli.onboard_plan import Plan
from loopback_auth.cli.onboard_words import OnboardWords
from loopback_auth.errors import ConfigurationError
from loopback_auth.oauth.registration import parse_redirect_uri
from loopback_auth.oauth.servers import SANDBOX
from loopback_auth.onboarding.board import Board
from loopback_auth.onboarding.faults import ManifestInvalid
from loopback_auth.onboarding.manifest import Entry, decode, parse_manifest
from loopback_auth.onboarding.report import csv_report
from loopback_auth.onboarding.rows import Row, Rows
from loopback_auth.onboarding.run import Run, Wanted
from loopback_auth.redirect.browser import open_browser
from loopback_auth.redirect.listener import Listener
from loopback_auth.redirect.server import LoopbackServer
from loopback_auth.redirect.windows import Windows
from loopback_auth.secret_source import hidden_variables
from loopback_auth.standing import standing_of
from loopback_auth.store.accounts import Accounts
from loopback_auth.text import printable


def run(source: str, content: bytes, flags: dict[str, Any]) -> int:
    """Log in to all accounts that need it, and return the exit status. Raises what forbids to begin at all."""
    configuration, store = config_file.load(), stores.open_store()
    try:
        entries = parse_manifest(decode(content, source), source, known_clients={*configuration.clients, SANDBOX})
        wanted = Plan(configuration, store, source, flags).wanted(entries)
    except ManifestInvalid as invalid:
        if len(invalid.faults) > 1:
            for fault in invalid.faults:
                voice.error(f"{source}, line {fault.line}: {fault.why}")
        raise
    for server in {one.grant.registration.server.name: one.grant.registration.server for one in wanted}.values():
        confirm.production(server, yes=flags["yes"])
    rows = Rows([_row(number, entry, one) for number, (entry, one) in enumerate(zip(entries, wanted, strict=True))])
    words = OnboardWords(rows, source, quiet=flags["quiet"], verbose=flags["verbose"])
    with _reported(rows, flags["report"]):
        try:
            signals.run(_work(rows, wanted, store, words, flags))
        except signals.Interrupted as stopped:
            raise signals.Interrupted(stopped.number, words.interrupted()) from None
    words.summary()
    if flags["as_json"]:
        report.print_json([_described(row, store) for row in rows])
    return max((row.exit_status for row in rows), default=0)


async def _work(rows: Rows, wanted: list[Wanted], store: Accounts, words: OnboardWords, flags: dict[str, Any]) -> None:
    redirect_uri = parse_redirect_uri(wanted[0].grant.registration.redirect_uri)
    certificate = tls.certificate_for(redirect_uri, flags)
    references = [one.grant.client_secret or {} for one in wanted]
    hide = (*hidden_variables(), *{str(reference["env"]) for reference in references if "env" in reference})
    servers = [one.grant.registration.server for one in wanted]
    async with embedded.sandbox(next((server for server in servers if server.name == SANDBOX), servers[0])):
        with (
            Listener.open(redirect_uri) as listener,
            Windows.open(
                Path(folders.data(), "windows"),
                command=flags["browser"],
                leaf=certificate.own_leaf if certificate else None,
                authority=listener.redirect_uri.authority,
                hide=hide,
            ) as windows,
        ):
            catches = Catches(words.stray)
            run = Run(
                rows,
                wanted,
                store=store,
                windows=_ByHand() if flags["no_browser"] else windows,
                parallel=flags["parallel"],
                timeout=flags["timeout"],
                is_watched=lambda: board.is_watched,
                tell=words.heard,
            )
            board = Board(rows, run, origin=listener.redirect_uri.origin, path=_board_path(wanted), title=words.source)
            words.by_hand = "--no-browser was given" if flags["no_browser"] else windows.why_none
            await run.look()
            if all(row.state == "done" for row in rows):
                return
            context = certificate.context if certificate else None
            async with LoopbackServer.open(listener, context, catches, board) as server, words.live():
                address = board.new_url()
                shows = words.is_live if flags["board"] is None else flags["board"]
                was_opened = shows and not isinstance(open_browser(address, hide=hide), str)
                words.begun(None if was_opened else address, listener.redirect_uri)
                await run.go(server, catches)
                board.finish(f"The run is over: {words.outcome()} You can close this tab.")
                await asyncio.sleep(0)


class _ByHand:
    """Opens nothing: the person does, with the addresses that are said."""

    def show(self, _url: str) -> str:
        return "--no-browser was given"


def _board_path(wanted: list[Wanted]) -> str:
    """Return a path that is no redirect's."""
    taken = {parse_redirect_uri(one.grant.registration.redirect_uri).path for one in wanted}
    return "/board" if not any(path.startswith("/board") for path in taken) else "/loopback-auth-board"


def _row(number: int, entry: Entry, wanted: Wanted) -> Row:
    registration = wanted.grant.registration
    return Row(
        number=number,
        account=entry.account,
        client=entry.client or registration.client_id,
        login=entry.login,
        notes=entry.notes,
        company_id=wanted.grant.expected_company,
        steps=tuple(login_words.steps(registration.server)),
    )


def _described(row: Row, store: Accounts) -> dict[str, Any]:
    """Return what became of a row, and of its account where it is done: the keys of `status`, and those of the run."""
    known: dict[str, Any] = {}
    if row.state == "done" and (account := store.load(row.account)) is not None:
        now = clock.now()
        known = report.describe(account, standing_of(account, store, now), store, now)
    return known | row.describe() | {"exit_status": row.exit_status}


@contextmanager
def _reported(rows: Rows, path: str | None) -> Iterator[None]:
    """Write the report when this ends, however it ends; that it can be written is found out now."""
    if path is None:
        yield
        return
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except (OSError, ValueError) as error:
        raise _no_report(path, error) from error
    try:
        yield
    finally:
        lines = csv_report(_reportable(row) for row in rows)
        try:
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(lines)
        except OSError as error:
            voice.error(str(_no_report(path, error)))


def _reportable(row: Row) -> dict[str, Any]:
    company = row.company or {}
    return row.describe() | {"company_id": company.get("id"), "company": company.get("name")}


def _no_report(path: str, error: OSError | ValueError) -> ConfigurationError:
    reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "it is not a path"
    return ConfigurationError(f"the report {printable(path)} cannot be written: {reason}")

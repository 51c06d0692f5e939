"""The manifest: the list of accounts that `onboard` logs in, checked whole before anybody is logged in.

Its three forms are in `forms.py`; here is what a row may hold. No files are read here.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from loopback_auth.errors import ConfigurationError
from loopback_auth.oauth.servers import nearest
from loopback_auth.onboarding.faults import Fault, ManifestInvalid
from loopback_auth.onboarding.forms import COLUMNS, read_accounts
from loopback_auth.store.head import valid_name
from loopback_auth.text import printable

__all__ = ["LONGEST", "MOST_BYTES", "MOST_ROWS", "NEW_MANIFEST", "Entry", "Fault", "ManifestInvalid"]
__all__ += ["decode", "parse_manifest"]

MOST_BYTES = 4 * 1024 * 1024
"""Whoever reads a manifest may stop one byte behind it."""
MOST_ROWS = 10_000
GUESSES = 20
"""Unknown clients of which the one that was meant is looked for, which takes long."""
LONGEST = 200
"""Characters of a value."""

NEW_MANIFEST = """\
# The accounts that `loopback-auth onboard FILE` logs in, one a row, in this order.
# Lines that begin with # are skipped; only the column account must be there.
#
# account     what the account will be called here: letters, digits, dots, dashes, underscores
# client      one of [clients.NAME] in config.toml; if empty, what [accounts.NAME] there or the command says
# company_id  whose tokens are expected; those of any other company are refused
# login       the user id to log in with: it is shown to whoever logs in
# notes       anything else that helps whoever logs in
#
# Passwords do not belong here: they are typed in the browser.
account,client,company_id,login,notes
cafe-roma,,4711,cafe-roma,"the first one, on the corner"
bistro-lyon,,4712,bistro-lyon,
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One account to log in."""

    account: str
    client: str | None = None
    """A client of `config.toml`; None: the command's flags or `[accounts.NAME]` decide."""
    company_id: str | None = None
    login: str | None = None
    """The user id to log in with, for the person to read."""
    notes: str | None = None
    line: int
    """Where it begins in the manifest, counted from 1."""


def decode(content: bytes, source: str) -> str:
    """Return the text of a manifest: UTF-8, with or without a byte order mark, or UTF-16 with one.

    Raises ConfigurationError: it is something else, or larger than `MOST_BYTES`.
    """
    where = printable(source)
    if len(content) > MOST_BYTES:
        raise ConfigurationError(f"{where} is larger than {MOST_BYTES // 2**20} MiB: that is no list of accounts")
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{where}, line {line}: this is not UTF-8", hint="save it as UTF-8") from None


def parse_manifest(text: str, source: str, *, known_clients: Collection[str]) -> list[Entry]:
    """Return the accounts of a manifest, in its order; `source` is what it is called in messages.

    Raises ManifestInvalid with every bad row, ConfigurationError for a manifest without accounts.
    """
    clients = _Clients(known_clients)
    entries: list[Entry] = []
    faults: list[Fault] = []
    lines: dict[str, int] = {}
    for number, row in enumerate(read_accounts(text.removeprefix("\ufeff"), source), 1):
        if number > MOST_ROWS:
            raise ManifestInvalid(source, [Fault(row.line, f"these are more than {MOST_ROWS:,} accounts")])
        if isinstance(row, Fault):
            faults.append(row)
            continue
        values, whys = _values(row.values)
        account, client = values["account"], values["client"]
        if client is not None and (why := clients.why_not(client)):
            whys.append(why)
        if account is not None and (earlier := lines.setdefault(account, row.line)) != row.line:
            whys.append(f"the same account stands on line {earlier} already")
        faults.extend(Fault(row.line, why) for why in whys)
        if account is not None and not whys:
            entries.append(
                Entry(
                    account=account,
                    client=client,
                    company_id=values["company_id"],
                    login=values["login"],
                    notes=values["notes"],
                    line=row.line,
                )
            )
    if faults:
        raise ManifestInvalid(source, faults)
    if not entries:
        raise ConfigurationError(f"{printable(source)} names no accounts", hint=_EXAMPLE)
    return entries


_EXAMPLE = "an example to begin with: loopback-auth onboard --new-manifest"


def _values(written: Mapping[str, object]) -> tuple[dict[str, str | None], list[str]]:
    """Return the text of each column, None for one that is empty or wrong, and what is wrong."""
    values: dict[str, str | None] = dict.fromkeys(COLUMNS)
    whys = []
    for column in COLUMNS:
        text = _text(column, written.get(column, ""))
        expected = "neither a number nor text" if column == "company_id" else "not text"
        why = f"{column} is {expected}" if text is None else _why_not(column, text)
        if why is not None:
            whys.append(why)
        else:
            values[column] = text or None
    return values, whys


def _text(column: str, value: object) -> str | None:
    if column == "company_id" and type(value) is int and abs(value) < 2**63:
        return str(value)
    if not isinstance(value, str):
        return None
    return " ".join(value.split()) if column == "notes" else value.strip()  # a spreadsheet's cell may hold lines


def _why_not(column: str, text: str) -> str | None:
    """Return why a text cannot stand in its column. It is not repeated: it may be a password in the wrong place."""
    if column == "account":
        if not text:
            return "account is missing"
        return None if valid_name(text) else f"account is no name: {_NAME}"
    if len(text) > LONGEST:
        return f"{column} is longer than {LONGEST} characters"
    if column == "company_id" and not all("!" <= character <= "~" for character in text):
        return "company_id holds a space, or something else than printable ASCII"
    return None if text.isprintable() else f"{column} holds a character that cannot be shown"


_NAME = "1 to 64 letters, digits, dots, dashes, underscores, the first no dot and no dash"


class _Clients:
    """The clients of `config.toml`; which of them was meant takes long to find out, and is said a few times only."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = frozenset(known)
        self._unknown: dict[str, str] = {}

    def why_not(self, name: str) -> str | None:
        """Return why an account cannot have this client, None if it can."""
        if name in self._known:
            return None
        if name not in self._unknown:
            meant = nearest(name, sorted(self._known)) if len(self._unknown) < GUESSES else ()
            why = "; ".join((f"there is no client called {printable(name, 64)}", *meant))
            self._unknown[name] = printable(why)
        return self._unknown[name]

"""The three forms of a manifest, read into rows: CSV with a header, TOML as in `config.toml`, names line by line.

What a value may be is for `manifest.py`. No value is repeated in a fault: a password may be among them by mistake.
"""

from __future__ import annotations

import csv
import io
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from loopback_auth.oauth.servers import nearest
from loopback_auth.onboarding.faults import Fault, ManifestInvalid
from loopback_auth.text import printable

COLUMNS = ("account", "client", "company_id", "login", "notes")
LONGEST_LINE = 4096
"""Characters. No row needs as many, and TOML takes the square of a long line's time."""
_SEPARATORS = ",;\t"
"""Of CSV; Excel takes the second where the comma is the decimal sign, the third comes with a copied range."""
_SECRETS = ("password", "passwd", "pwd", "passphrase", "pin", "secret", "client_secret", "token")


class Written(NamedTuple):
    """One account as written, by column: text, and in TOML whatever stands there."""

    line: int
    values: Mapping[str, object]


def read_accounts(text: str, source: str) -> Iterator[Written | Fault]:
    """Return the accounts of a manifest, and in their place the faults of those that cannot be read.

    Blank lines, and lines that begin with #, say nothing; the first that says something shows the form.
    Raises ManifestInvalid where nothing can be read at all, at the latest with the first row.
    """
    lines = list(io.StringIO(text, newline=""))
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            raise ManifestInvalid(source, [Fault(number, f"this line is longer than {LONGEST_LINE:,} characters")])
    first = next((line.strip() for line in lines if not _says_nothing(line)), "")
    if first.startswith("["):
        return _toml_rows(text, source)
    if set(first) & set(_SEPARATORS) or first.strip('"').lower() in COLUMNS:
        return _csv_rows(lines, max(_SEPARATORS, key=first.count), source)
    return _names(lines)


def _says_nothing(line: str) -> bool:
    line = line.strip(f" \r\n{_SEPARATORS}")  # Excel fills up a blank line and a comment with separators
    return line.startswith(("#", '"#')) or not line


def _names(lines: Iterable[str]) -> Iterator[Written | Fault]:
    return (Written(number, {"account": line}) for number, line in enumerate(lines, 1) if not _says_nothing(line))


# --- CSV (RFC 4180) ---


class _Lines:
    """Lines for `csv.reader`, which asks for more while a quote is open: only between rows do some say nothing."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._numbered = iter(enumerate(lines, 1))
        self.row_began = 0
        """On which line; 0 between rows."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for number, line in self._numbered:
            if self.row_began or not _says_nothing(line):
                self.row_began = self.row_began or number
                return line
        raise StopIteration


def _csv_rows(lines: Iterable[str], separator: str, source: str) -> Iterator[Written | Fault]:
    records = _records(lines, separator)
    line, names = next(records)
    if names is None:
        raise ManifestInvalid(source, [Fault(line, _QUOTES)])
    header = [name.strip() for name in names]
    _check_header(line, header, source)
    for line, fields in records:
        if fields is None:
            yield Fault(line, _QUOTES)
        elif len(fields) != len(header):
            yield Fault(line, f"the header names {len(header)} columns, and here are {len(fields)}")
        else:
            yield Written(line, dict(zip(header, fields, strict=True)))


_QUOTES = "its quotes do not match"


def _records(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str] | None]]:
    """Yield each record and the line that it begins on; None for one whose quotes do not match."""
    source = _Lines(lines)
    reader = csv.reader(source, delimiter=separator, skipinitialspace=True, strict=True)
    while True:
        source.row_began = 0
        try:
            fields = next(reader)
        except csv.Error:
            yield source.row_began, None
        except StopIteration:
            return
        else:
            yield source.row_began, fields


# --- TOML ---


def _toml_rows(text: str, source: str) -> Iterator[Written | Fault]:
    data = _toml(text, source)
    lines = _header_lines(text)
    accounts = data.pop("accounts", {})
    if data or not isinstance(accounts, dict):
        strangers = {key: key if _reads_like_a_name(key) else "this" for key in data or ("accounts",)}
        faults = [Fault(lines.get((key,), 1), f"{shown} is no table of accounts") for key, shown in strangers.items()]
        raise ManifestInvalid(source, faults, hint="write [accounts.NAME]")
    whole = lines.get(("accounts",), 1)
    placed = [(lines.get(("accounts", name), whole), name, table) for name, table in accounts.items()]
    found = [(line, key) for line, _, table in placed if isinstance(table, dict) for key in table]
    _refuse_unknown(found, COLUMNS[1:], source)
    for line, name, table in placed:
        if isinstance(table, dict):
            yield Written(line, {"account": name, **table})
        else:
            yield Fault(line, "this account is not a table")


def _toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        why, _, place = str(error).partition(" (at ")
        found = re.search("line ([0-9]+)", place)
        line = int(found[1]) if found else text.count("\n", 0, len(text.rstrip())) + 1
        if not isinstance(error, tomllib.TOMLDecodeError):
            why = "it holds too much"
        elif why.startswith(("Cannot", "Duplicate")):  # and then it repeats the key
            why = "a table or a key stands there twice"
        why = f"{why[0].lower()}{why[1:]}"
        raise ManifestInvalid(source, [Fault(line, f"this is not TOML: {printable(why)}")]) from None


_STRINGS = re.compile(
    r'#[^\n]*|"""(?:\\.|[^\\])*?"""(?!")|\'\'\'.*?\'\'\'(?!\')|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL
)
_KEY = re.compile(r"""\s*([A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')\s*[.=]""")


def _header_lines(text: str) -> dict[tuple[str, ...], int]:
    """Return on which line each table, and each key below `[accounts]`, first stands: `tomllib` does not tell."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    bare = _STRINGS.sub(lambda string: "\n" * string[0].count("\n") or string[0], text)  # in a string is no header
    for number, line in enumerate(bare.split("\n"), 1):
        if line.lstrip().startswith("["):
            table = _path(line)
            for depth in range(1, len(table) + 1):
                found.setdefault(table[:depth], number)
        elif table == ("accounts",) and (key := _KEY.match(line)):
            found.setdefault(("accounts", *_path(f"{key[1]} = 0")), number)
    return found


def _path(line: str) -> tuple[str, ...]:
    """Return the two outer names of a table's header or a key, none where the line is something else."""
    try:
        table = tomllib.loads(line)
    except (ValueError, RecursionError):
        return ()
    path: list[str] = []
    while table and len(path) < 2 and isinstance(table, dict):
        path.append(next(iter(table)))
        table = table[path[-1]]
    return tuple(path)


# --- columns ---


def _check_header(line: int, header: list[str], source: str) -> None:
    """Raise ManifestInvalid for a header that cannot be: what stands below it is not looked at then."""
    if not set(header) & set(COLUMNS):  # it may be a row of values
        raise ManifestInvalid(
            source,
            [Fault(line, "the first line names no columns")],
            hint=(f"columns: {', '.join(COLUMNS)}", "or leave all but the account names out, one on each line"),
        )
    _refuse_unknown([(line, column) for column in header], COLUMNS, source)
    if twice := [column for column in COLUMNS if header.count(column) > 1]:
        raise ManifestInvalid(source, [Fault(line, f"the column {twice[0]} stands there twice")])
    if "account" not in header:
        raise ManifestInvalid(source, [Fault(line, "the column account is missing")])


def _refuse_unknown(found: list[tuple[int, str]], known: tuple[str, ...], source: str) -> None:
    """Raise ManifestInvalid for columns that are not known, and say so where one is meant for a secret."""
    unknown = [Fault(line, _unknown(column)) for line, column in found if column not in known]
    if not unknown:
        return
    names = [column for _, column in found if column not in known]
    if any(name.lower() in _SECRETS for name in names):
        hints: tuple[str, ...] = ("passwords do not belong here: whoever logs in types theirs in the browser",)
    else:
        hints = nearest(names[0][:64], known)
    raise ManifestInvalid(source, unknown, hint=(*hints, f"columns: {', '.join(known)}"))


def _unknown(column: str) -> str:
    if not column:
        return "a column has no name"
    return (
        f"there is no column called {column}" if _reads_like_a_name(column) else "a column is none of those known here"
    )


def _reads_like_a_name(word: str) -> bool:
    """Whether this may be repeated: what reads like no column and no table may be a value in the wrong place."""
    return re.fullmatch("[A-Za-z_ ]{1,40}", word) is not None

"""What comes in and out when many accounts are logged in: the list of them, and the report for a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any

from hypothesis import strategies as st

from loopback_auth.errors import ConfigurationError
from loopback_auth.onboarding.manifest import LONGEST, NEW_MANIFEST, ManifestInvalid, decode, parse_manifest
from loopback_auth.onboarding.report import COLUMNS, csv_report
from loopback_auth.store.head import valid_name

from .shapes import ANY_TEXT, nearly
from .target import MARK, Target, well_said

CLIENTS = ("acme", "acme-staging", "\x1b[2J")
TEXTS = st.sampled_from(
    [
        NEW_MANIFEST,
        "account;client;company_id;login;notes\r\na;acme;4711;roma@example.com;x\r\nb;;;;\r\n",
        'notes,account\n"two\nlines, ""quoted""",a\n# comment\n,b\n',
        f"account,password\na,{MARK}x\n",
        f"account\na\n{MARK} x\n",
        "[accounts.a]\nclient = 'acme'\ncompany_id = 4711\nlogin = 'x'\n\n[accounts.'b']\nnotes = '''x\ny'''\n",
        "[accounts]\na = {}\nb.login = 'x'\n",
        f"[accounts.a]\npassword = '{MARK}x'\n",
        "a\n\n# comment\nb\n",
    ]
)
ENCODINGS = st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
MANIFESTS = st.builds(
    lambda text, encoding: text.encode("utf-8", "replace").decode("utf-8").encode(encoding, "replace"),
    nearly(TEXTS, 2),
    ENCODINGS,
)


def check_manifest(content: bytes) -> bool:
    """Accounts in the order of the file, each of which can be logged in; or every fault, on a line that is there."""
    lines = len(
        content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1", "replace").split("\n")
    )
    lines += content.count(b"\r")
    try:
        entries = parse_manifest(decode(content, "new\x1b.csv"), "new\x1b.csv", known_clients=CLIENTS)
    except ConfigurationError as error:
        well_said(error)
        if isinstance(error, ManifestInvalid):
            assert error.faults
            assert list(error.faults) == sorted(error.faults)
            for fault in error.faults:
                well_said(ConfigurationError(fault.why))
                assert 1 <= fault.line <= lines
        return False
    assert entries
    assert len({entry.account for entry in entries}) == len(entries)
    assert [entry.line for entry in entries] == sorted(entry.line for entry in entries)
    for entry in entries:
        assert valid_name(entry.account)
        assert entry.client is None or entry.client in CLIENTS
        assert 1 <= entry.line <= lines
        for value in (entry.client, entry.company_id, entry.login, entry.notes):
            assert value is None or (value == value.strip() and value.isprintable() and 0 < len(value) <= LONGEST)
        assert (entry.company_id or "").isascii()
    return True


MANIFEST: Target[bytes] = Target(
    "manifest",
    MANIFESTS,
    check_manifest,
    kept=(
        b"",
        f"account,pa,{MARK}x\n".encode(),
        f"account\n{MARK}\n{MARK}\n".encode(),
        b"\xff\xfe",
        b"\xff\xfea",
        b"\xef\xbb\xbf",
        b"\0",
        b"account\n\0\n",
        b'account\n"',
        b'account\n"a\n\n\n',
        b'"account\n',
        b'"account"x,login\n',
        b"account,\n",
        b",\na",
        b";,\t\na",
        b"account\r\r\na\r",
        b'account\n"' + b"a\n" * 70_000,
        b"account,client\na,\x1b[2J\n",
        "account,client\na,\u2028\n".encode(),
        b"[",
        b"[accounts",
        b"[accounts]\n",
        b"[accounts]\n[accounts.a]\n",
        b"[accounts.'']\n",
        b'[accounts."\\n"]\n',
        b'[accounts."[accounts.b]"]\n[accounts.a]\n',
        b"[[accounts]]\na = 1\n",
        b"[accounts.a]\nb.c = [{}]\n",
        b"[accounts.a]\nlogin = '\r'\n",
        b"[accounts.a]\ncompany_id = 0x" + b"f" * 4000,
        b"[accounts.a]\ncompany_id = " + b"9" * 4400,
        b"[accounts.a]\nlogin = 0000-00-00\n",
        b"[accounts.a]\nlogin = " + b"[" * 4000,
        b"[accounts]\na = []\nb = 5\n",
        b'[accounts]\n"a\\u0062" = {}\n',
        b"[" + b"a." * 2000 + b"a]\n",
    ),
    share=0.15,
    examples=150,
    large=(
        lambda size: b"account\n" + b"a\n" * (size // 2),
        lambda size: b"account\n" + b'"\n' * (size // 2),
        lambda size: b'account\n"' + b"\n" * size,
        lambda size: b"account,client\n" + b"".join(b"a%d,b%d\n" % (one, one) for one in range(size // 15)),
        lambda size: b"".join(b"[accounts.a%d]\n" % one for one in range(size // 18)),
        lambda size: b"[accounts]\n" + b"".join(b"a%d = {}\n" % one for one in range(size // 12)),
        lambda size: b"[a" + b".a" * 2000 + b"]\n" + (b"[b" + b".b" * 2000 + b"]\n") * (size // 4003),
        lambda size: b'[accounts.a]\nnotes = """' + b'\\u0041""\n' * (size // 9) + b'"""',
        lambda size: b"[accounts.a]\n" + b"# '''\n" * (size // 6),
        lambda size: b"[accounts.a]\nnotes = [" + b"1,\n" * (size // 3) + b"]",
        lambda size: b"#\n" * (size // 2),
    ),
    limit=1024 * 1024,
)

# --- the report ---

CELLS: st.SearchStrategy[Any] = (
    st.none() | st.integers() | st.floats() | ANY_TEXT | st.sampled_from(["=1+1", "\t=1", " @x", '",="', "\r\n=1", "'"])
)


def check_report(rows: list[dict[str, object]]) -> bool:
    """A spreadsheet reads as many rows as were given, each on a line of its own, and none of its texts as a formula."""
    text = csv_report(rows)
    header, *read = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert tuple(header) == COLUMNS
    assert len(text.split("\r\n")) - 2 == len(read) == len(rows)
    for row, cells in zip(rows, read, strict=True):
        assert len(cells) == len(COLUMNS)
        for column, cell in zip(COLUMNS, cells, strict=True):
            value = row.get(column)
            assert cell.isprintable()
            assert isinstance(value, int | float) or not cell.lstrip().startswith(("=", "+", "-", "@"))
    return True


REPORT: Target[list[dict[str, object]]] = Target(
    "onboarding report",
    st.lists(st.dictionaries(st.sampled_from(COLUMNS), CELLS), max_size=3),
    check_report,
    kept=([], [{}], [{"company": "\ud800\r=1"}], [{"company": "\u2028=1"}], [{"message": "\xa0=1"}]),
    share=1.0,
    examples=60,
)

TARGETS = (MANIFEST, REPORT)

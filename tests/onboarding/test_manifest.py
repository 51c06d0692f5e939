"""The list of accounts to log in: three forms of it, and every row that cannot be used named with its line."""

from __future__ import annotations

import codecs

import pytest

from loopback_auth.errors import ConfigurationError
from loopback_auth.onboarding.manifest import (
    LONGEST,
    MOST_BYTES,
    MOST_ROWS,
    NEW_MANIFEST,
    Entry,
    Fault,
    ManifestInvalid,
    decode,
    parse_manifest,
)

CLIENTS = ("acme-staging", "acme-production")


def parse(text: str) -> list[Entry]:
    return parse_manifest(text, "new.csv", known_clients=CLIENTS)


def refused(text: str) -> ManifestInvalid:
    with pytest.raises(ManifestInvalid) as caught:
        parse(text)
    assert caught.value.exit_status == 3
    assert "s3kr1t" not in f"{caught.value}{caught.value.hint}{caught.value.faults}"
    return caught.value


ROMA = Entry(
    account="cafe-roma",
    client="acme-staging",
    company_id="4711",
    login="roma@example.com",
    notes="Via Appia 1, ask for Anna",
    line=2,
)
LYON = Entry(account="bistro-lyon", line=3)

# --- the three forms ---


@pytest.mark.parametrize(
    "text",
    [
        "account,client,company_id,login,notes\n"
        'cafe-roma,acme-staging,4711,roma@example.com,"Via Appia 1, ask for Anna"\n'
        "bistro-lyon,,,,\n",
        '"notes";"login";"company_id";"client";"account"\r\n'
        "Via Appia 1, ask for Anna;roma@example.com;4711;acme-staging;cafe-roma\r\n"
        ";;;;bistro-lyon",
        "\ufeffaccount\tcompany_id\tclient\tnotes\tlogin\r\n"
        " cafe-roma\t 4711 \tacme-staging\tVia Appia 1, ask for Anna\troma@example.com\r\n"
        "bistro-lyon\t\t\t\t\r\n",
        'account, client, company_id, login, notes\rcafe-roma, "acme-staging", 4711, roma@example.com, '
        '"Via Appia 1, ask for Anna"\rbistro-lyon, , , ,',
    ],
    ids=["as RFC 4180 says", "as Excel writes it in Europe", "copied from a spreadsheet", "by hand"],
)
def test_csv(text: str) -> None:
    """Columns in any order, whichever separator the header has, with or without a byte order mark; values stripped."""
    assert parse(text) == [ROMA, LYON]


def test_one_column_is_enough() -> None:
    """Only `account` must be there."""
    assert parse("account\ncafe-roma\nbistro-lyon\n") == [
        Entry(account="cafe-roma", line=2),
        Entry(account="bistro-lyon", line=3),
    ]


def test_toml() -> None:
    """`[accounts.NAME]` as in config.toml; a company id is a number or text."""
    text = """# of this week
[accounts.cafe-roma]
client = "acme-staging"
company_id = 4711
login = "roma@example.com"
notes = "Via Appia 1, ask for Anna"

[accounts."bistro.lyon"]
company_id = "L-12"
"""
    assert parse(text) == [ROMA, Entry(account="bistro.lyon", company_id="L-12", line=8)]


def test_toml_in_other_words() -> None:
    """What TOML takes for the same is the same."""
    assert parse("[accounts]\na = { company_id = 1 }\n\nb.login = 'x'\n'c'.notes = ''\n\"\\u0064\" = {}\n") == [
        Entry(account="a", company_id="1", line=2),
        Entry(account="b", login="x", line=4),
        Entry(account="c", line=5),
        Entry(account="d", line=6),
    ]


def test_names_line_by_line() -> None:
    """Account names alone may come from a pipe."""
    assert parse("\n# new\r\n cafe-roma \r\nbistro-lyon") == [
        Entry(account="cafe-roma", line=3),
        Entry(account="bistro-lyon", line=4),
    ]


def test_the_example_is_valid() -> None:
    """What `--new-manifest` prints is a manifest as it stands, with no client that anybody would have to have."""
    assert [entry.account for entry in parse_manifest(NEW_MANIFEST, "new.csv", known_clients=())] == [
        "cafe-roma",
        "bistro-lyon",
    ]
    for column in ("account", "client", "company_id", "login", "notes"):
        assert f"\n# {column} " in NEW_MANIFEST
    assert all(len(line) <= 120 for line in NEW_MANIFEST.splitlines())


# --- lines ---


def test_lines_are_those_of_the_file() -> None:
    """Comments, blank lines, those that Excel fills up with separators, and line breaks in quotes are all counted."""
    text = (
        "# first\r\n\r\naccount;notes\r\n"
        '# not, "these\r\n;\r\na;"x\r\n\r\n# y"\r\n'  # lines 6 to 8
        '"# no; ""row""";\r\nb;z\r\n'
    )
    assert parse(text) == [Entry(account="a", notes="x # y", line=6), Entry(account="b", notes="z", line=10)]


@pytest.mark.parametrize("quotes", ['"""', "'''"])
def test_a_header_in_a_string_is_none(quotes: str) -> None:
    """In TOML, what stands in a string of several lines is no account."""
    text = f"[accounts.a]\nnotes = {quotes}\n[accounts.b]\n# it's {quotes} # it's\n[accounts.b]\n"
    assert parse(text) == [Entry(account="a", notes="[accounts.b] # it's", line=1), Entry(account="b", line=5)]


# --- faults ---

MANY = f"""account,client,company_id,login,notes
cafe-roma,acme-stagin,,,
,,,,
.hidden,,,,
{"x" * 65},,,,
"bistro
lyon",,,,
,acme-staging,,,
good,,47 11,,
good2,,4711\u0661,,
good3,,,{"x" * (LONGEST + 1)},
good4,,,,{"x" * (LONGEST + 1)}
good5,,,a\0b,
good6,,,,a\x1bb
good7,,,
good8,,,,,
good9,,,,x"y
good10,,,,"x"y
cafe-roma,,,,
good11,nobody,\u202e,,
"""
NO_NAME = "account is no name: 1 to 64 letters, digits, dots, dashes, underscores, the first no dot and no dash"


def test_every_bad_row_is_named() -> None:
    """The manifest is checked whole: each fault with its line and the reason, in the order of the lines."""
    assert refused(MANY).faults == (
        Fault(2, "there is no client called acme-stagin; did you mean acme-staging?"),
        Fault(4, NO_NAME),
        Fault(5, NO_NAME),
        Fault(6, NO_NAME),
        Fault(8, "account is missing"),
        Fault(9, "company_id holds a space, or something else than printable ASCII"),
        Fault(10, "company_id holds a space, or something else than printable ASCII"),
        Fault(11, "login is longer than 200 characters"),
        Fault(12, "notes is longer than 200 characters"),
        Fault(13, "login holds a character that cannot be shown"),
        Fault(14, "notes holds a character that cannot be shown"),
        Fault(15, "the header names 5 columns, and here are 4"),
        Fault(16, "the header names 5 columns, and here are 6"),
        Fault(18, "its quotes do not match"),
        Fault(19, "the same account stands on line 2 already"),
        Fault(20, "company_id holds a space, or something else than printable ASCII"),
        Fault(20, "there is no client called nobody"),
    )


def test_one_fault_is_the_message_and_of_several_their_number() -> None:
    """Nobody has to mend a manifest line by line to learn of the next fault: all are there, however many."""
    one = refused("account,client\na,\nb,acme-stagin\n")
    assert str(one) == "new.csv, line 3: there is no client called acme-stagin; did you mean acme-staging?"
    assert one.hint == ()
    many = refused("a\n" * 31)
    assert (str(many), many.hint, len(many.faults)) == ("new.csv has 30 faults: nothing was opened", (), 30)


def test_faults_are_in_the_order_of_the_lines() -> None:
    """Whoever found them first, they are said from the top down."""
    faults = (Fault(3, "b"), Fault(1, "c"), Fault(3, "a"))
    assert ManifestInvalid("new.csv", faults).faults == (Fault(1, "c"), Fault(3, "a"), Fault(3, "b"))


def test_two_accounts_of_one_company() -> None:
    """Two accounts may expect the same company: two clients, or two logins, of one restaurant."""
    assert [one.company_id for one in parse("account,company_id\na,1\nb,1\n")] == ["1", "1"]


def test_other_writings_are_printable() -> None:
    """What people are called is no fault."""
    assert parse("account,login,notes\na,Zoë,\U0001f355\u00a0\u4e2d\n")[0] == Entry(
        account="a", login="Zoë", notes="\U0001f355 \u4e2d", line=2
    )


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("acount,client\nx", "line 1: there is no column called acount", "did you mean account?"),
        ("Account,client\nx", "line 1: there is no column called Account", "did you mean account?"),
        ("#\naccount,\x1b\nx", "line 2: a column is none of those known here", "columns: account, client"),
        ("account,s3kr1t-x\n", "line 1: a column is none of those known here", "columns: account, client"),
        ("[accounts.a]\n[s3kr1t-x]\n", "line 2: this is no table of accounts", "write [accounts.NAME]"),
        (
            "[accounts.a]\ns3kr1t-x.b = 1\ns3kr1t-x = 1",
            "line 3: this is not TOML: a table or a key stands there twice",
            None,
        ),
        ("account,,client\nx", "line 1: a column has no name", "columns: account, client"),
        ("client,login\nx", "line 1: the column account is missing", None),
        ("login\nx", "line 1: the column account is missing", None),
        ("account,login,login\nx", "line 1: the column login stands there twice", None),
        ('account,"login\nx', "line 1: its quotes do not match", None),
        ("[accounts.a]\n[accounts.b]\nlogn = 'x'", "line 2: there is no column called logn", "did you mean login?"),
        ("[accounts.a]\naccount = 'b'", "line 1: there is no column called account", "columns: client, company_id"),
        ("[accounts.a.b]\n", "line 1: there is no column called b", "columns: client, company_id"),
        ("[accounts.a]\n[clients.b]", "line 2: clients is no table of accounts", "write [accounts.NAME]"),
        ("[[accounts]]\n", "line 1: accounts is no table of accounts", "write [accounts.NAME]"),
        ("[accounts]\na = {}\nb = 1", "line 3: this account is not a table", None),
        ("[accounts.a]\nnotes = x", "line 2: this is not TOML: invalid value", None),
        ("[accounts.a]\n\nnotes =", "line 3: this is not TOML: invalid value", None),
        ("[accounts.a]\n[accounts.a]", "line 2: this is not TOML: a table or a key stands there twice", None),
        ("[accounts.a]\ncompany_id = 0x" + "9" * 999, "line 1: company_id is neither a number nor text", None),
        ("[accounts.a]\ncompany_id = " + "9" * 4077, "line 1: company_id is neither a number nor text", None),
        ("[accounts.a]\ncompany_id = true", "line 1: company_id is neither a number nor text", None),
        ("[accounts.a]\nlogin = 1", "line 1: login is not text", None),
        ("[accounts.a]\nlogin = " + "[" * 3000, "line 2: this is not TOML: it holds too much", None),
        ("[accounts.'a b']\n", f"line 1: {NO_NAME}", None),
        ("a\n" + "b" * 4097, "line 2: this line is longer than 4,096 characters", None),
    ],
)
def test_what_is_wrong(text: str, said: str, hint: str | None) -> None:
    """Columns and forms that cannot be are said by line, with what was probably meant."""
    error = refused(text)
    assert str(error) == f"new.csv, {said}"
    assert [line[: len(hint or "")] for line in error.hint[:1]] == ([] if hint is None else [hint])


@pytest.mark.parametrize(
    "text",
    [
        "account,password\ncafe-roma,s3kr1t-x\n",
        "account;Password\ncafe-roma;s3kr1t-x\n",
        "account,client_secret\ncafe-roma,s3kr1t-x\n",
        "[accounts.cafe-roma]\npassword = 's3kr1t-x'\n",
    ],
)
def test_a_password_does_not_belong_here(text: str) -> None:
    """A column for passwords is refused, with the reason, and none of them is said."""
    error = refused(text)
    assert "there is no column called " in str(error)
    assert error.hint[0] == "passwords do not belong here: whoever logs in types theirs in the browser"


@pytest.mark.parametrize("text", ["cafe-roma,s3kr1t-x\n", "cafe-roma s3kr1t-x\n", "account\ncafe-roma:s3kr1t-x\n"])
def test_a_password_in_a_wrong_place_is_not_said(text: str) -> None:
    """A list of names and passwords is refused without a word of it."""
    assert "cafe-roma" not in str(refused(text))


@pytest.mark.parametrize("text", ["", "\ufeff", "\n\r\n#\n", "account\n", "account,login\n,\n# a\n", "[accounts]\n"])
def test_no_accounts(text: str) -> None:
    """A manifest that names nobody is refused, with how to get an example."""
    with pytest.raises(ConfigurationError, match=r"new\.csv names no accounts") as caught:
        parse(text)
    assert caught.value.hint == ("an example to begin with: loopback-auth onboard --new-manifest",)


def test_too_many() -> None:
    """10,000 accounts, and not one more."""
    lines = [f"r{number}\n" for number in range(MOST_ROWS)]
    assert len(parse("".join(lines))) == MOST_ROWS
    more = refused("account\n" + "".join(lines) + "one-more")
    assert more.faults == (Fault(10_002, "these are more than 10,000 accounts"),)


# --- bytes ---


@pytest.mark.parametrize(
    "content",
    [
        "Zoë\r\n".encode(),
        "Zoë\r\n".encode("utf-8-sig"),
        "Zoë\r\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + "Zoë\r\n".encode("utf-16-be"),
    ],
)
def test_text_of_bytes(content: bytes) -> None:
    """UTF-8, or what Excel calls Unicode text: UTF-16 with its mark."""
    assert decode(content, "new.csv") == "Zoë\r\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\nZo\xeb\n", "new.csv, line 2: this is not UTF-8"),
        (codecs.BOM_UTF16_LE + b"a", "new.csv, line 1: this is not UTF-8"),
        (b"a" * (MOST_BYTES + 1), "new.csv is larger than 4 MiB: that is no list of accounts"),
    ],
)
def test_bytes_that_are_no_text(content: bytes, said: str) -> None:
    """Latin-1, half a character, a file of another kind."""
    with pytest.raises(ConfigurationError) as caught:
        decode(content, "new.csv")
    assert str(caught.value) == said


def test_as_large_as_it_may_be() -> None:
    """4 MiB are a manifest still."""
    assert len(decode(b"#" * MOST_BYTES, "new.csv")) == MOST_BYTES

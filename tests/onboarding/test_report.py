"""The report as CSV: what a spreadsheet, or another program, reads from it."""

from __future__ import annotations

import csv
import io

import pytest

from loopback_auth.onboarding.report import COLUMNS, csv_report


def test_the_whole_report() -> None:
    """A header and the rows as RFC 4180 has them: CR LF, quotes where needed, nothing for what is missing."""
    rows: list[dict[str, object]] = [
        {
            "account": "cafe-roma",
            "client": "acme",
            "state": "ok",
            "company_id": "4711",
            "company": 'Cafe "Roma", Zoë',
            "seconds": 41.5,
            "message": None,
            "another": "x",
        },
        {"account": "bistro-lyon", "state": "login required", "message": "access was denied"},
    ]
    assert csv_report(rows) == (
        "account,client,state,company_id,company,seconds,message\r\n"
        'cafe-roma,acme,ok,4711,"Cafe ""Roma"", Zoë",41.5,\r\n'
        "bistro-lyon,,login required,,,,access was denied\r\n"
    )


def test_nobody() -> None:
    """Without rows there is the header."""
    assert csv_report([]) == ",".join(COLUMNS) + "\r\n"


@pytest.mark.parametrize(
    ("company", "cell"),
    [
        ("=1+1", "'=1+1"),
        ('=HYPERLINK("https://evil.example")', '\'=HYPERLINK("https://evil.example")'),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\\x09=1"),
        ("\r=1", "'\\x0d=1"),
        ("\n=1", "'\\x0a=1"),
        ("  =1", "'  =1"),
        ("\uff1d1", "'\uff1d1"),
        ("a=1", "a=1"),
        ("'=1", "'=1"),
        ("a\r\n=1\x1b[2J", r"a\x0d\x0a=1\x1b[2J"),
        ("\u202e", r"\xe2\x80\xae"),
        ("\ud800", r"\xed\xa0\x80"),
        (-1.5, "-1.5"),
    ],
)
def test_no_cell_is_a_formula(company: object, cell: str) -> None:
    """A company's name is text in a spreadsheet, on one line, and moves no cursor; a number stays one."""
    (_, row) = csv.reader(io.StringIO(csv_report([{"company": company}]), newline=""), strict=True)
    assert row == ["", "", "", "", cell, "", ""]

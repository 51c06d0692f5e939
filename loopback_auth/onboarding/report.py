"""What came of each account, as CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from loopback_auth.text import printable

COLUMNS = ("account", "client", "state", "company_id", "company", "seconds", "message")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet take a cell for a formula; the last four are the wide forms of the first."""


def csv_report(rows: Iterable[Mapping[str, object]]) -> str:
    """Return RFC 4180 CSV, its lines ended by CR LF: to be written as it is (`newline=""`).

    A row may lack columns; None is an empty cell. Names come from outside, so no cell of text is a formula, and none
    holds a control character.
    """
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    writer.writerow(COLUMNS)
    writer.writerows([_cell(row.get(column)) for column in COLUMNS] for row in rows)
    return written.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = str(value)
    shown = "".join(character if character.isprintable() else printable(character) for character in text)
    is_formula = not isinstance(value, int | float) and text.lstrip(" ").startswith(_FORMULA)
    return f"'{shown}" if is_formula else shown

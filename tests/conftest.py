"""What holds for every test: a secret that a test marked shows up in no output and in no log, at no level."""

from __future__ import annotations

import base64
import logging
import signal
import sys
from collections.abc import Iterator

import hypothesis
import pytest

MARK = "s3kr1t-"
"""Every secret in a test holds it: tokens, codes, client secrets, states."""
_ENCODED = [base64.b64encode(b"\0" * lead + MARK.encode())[(0, 2, 3)[lead] : 8].decode() for lead in range(3)]
_CAPTURES = ("capsys", "capsysbinary", "capfdbinary", "capfd")

hypothesis.settings.register_profile("house", deadline=None, database=None)
hypothesis.settings.load_profile("house")


def pytest_configure() -> None:
    """What `nohup` and a shell's `&` make us ignore, the commands that tests start must not inherit."""
    for number, usual in (
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test if a marked secret, plain or in base64, was printed or logged."""
    capture = request.getfixturevalue(next((name for name in _CAPTURES if name in request.fixturenames), "capfd"))
    caplog: pytest.LogCaptureFixture = request.getfixturevalue("caplog")
    caplog.set_level(logging.DEBUG)
    yield
    printed = capture.readouterr()
    for stream, text in ((sys.stdout, printed.out), (sys.stderr, printed.err)):
        (stream.buffer if isinstance(text, bytes) else stream).write(text)  # for the report of a test that failed
        _check(text.decode(errors="replace") if isinstance(text, bytes) else text, "printed")
    formatter = logging.Formatter()
    for record in caplog.get_records("setup") + caplog.get_records("call"):
        _check(formatter.format(record), f"logged by {record.name}")


def _check(text: str, how: str) -> None:
    found = [form for form in (MARK, *_ENCODED) if form in text]
    assert not found, f"a secret was {how}"

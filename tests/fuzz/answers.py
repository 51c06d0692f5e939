"""What is left of an answer that breaks HTTP's rules, and what a terminal is shown of one."""

from __future__ import annotations

import json
import re

from hypothesis import strategies as st

from loopback_auth.cli.api import JSON_LIMIT, LINES_LIMIT, _for_people
from loopback_auth.endpoints.exchange import HEARD_LIMIT, _body_of_a_broken_yes
from loopback_auth.oauth.token import ANSWER_LIMIT, tokens_in

from .shapes import JSON, nearly_bytes, written
from .target import MARK, Target, tells_nothing

TOKENS = json.dumps({"access_token": f"{MARK}a", "refresh_token": f"{MARK}r"}).encode()
HEADS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\nX\n\n",
        b"http/2  201\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early\r\nLink: {}\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: {\r\n",
        b"HTTP/1.1 400 No\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"",
    ]
)
HEARD = nearly_bytes(
    st.builds(
        lambda heads, tokens: b"".join(heads) + tokens,
        st.lists(HEADS, max_size=3),
        st.sampled_from([TOKENS, TOKENS, b"1f\r\n" + TOKENS, TOKENS[:-3], b"", b"{" * 70_000]),
    ),
    1,
)


def check_heard(heard: bytes) -> bool:
    """Nothing, or what stands behind the head of a yes, from its first brace on and no more than is kept."""
    body = _body_of_a_broken_yes(heard)
    assert body == b"" or (body.startswith(b"{") and body in heard)
    assert len(body) <= ANSWER_LIMIT
    before = heard.removesuffix(body) if heard.endswith(body) else heard[: heard.index(body)]
    assert body == b"" or re.search(rb"HTTP/[\d.]+ +2\d\d\b", before, re.IGNORECASE)
    tokens = tokens_in(body)
    tells_nothing(tokens)
    return tokens is not None


BROKEN_YES: Target[bytes] = Target(
    "answer that breaks HTTP's rules",
    HEARD,
    check_heard,
    kept=(
        b"HTTP/1.1 103 A\r\nLink: {}\r\n\r\nHTTP/1.1 200 OK\r\n\r\nHTTP/1.1 103 A\r\nLink: {}\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + TOKENS,
        b"HTTP/1.1 100 {\r\n\r\nHTTP/1.1 401 No\r\n\r\n" + TOKENS,
        b"HTTP/1.1 200 OK\r\n{\r\n" + TOKENS,
        b"HTTP/1.1 100\n\n" * 5000,
    ),
    share=0.1,
    examples=120,
    large=(
        lambda size: b"HTTP/1.1 100 C\r\n\r\n" * (size // 18),
        lambda size: b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (size // 6),
        lambda size: b"HTTP/1.1 200 OK\r\n\r\n" + b"{" * size,
        lambda size: b"HTTP/" + b"1." * (size // 2),
        lambda size: b"HTTP/1.1" + b" " * size,
    ),
    limit=HEARD_LIMIT,
)


def check_shown(body: bytes) -> bool:
    """A terminal is shown lines of printable ASCII; JSON is the same JSON there."""
    shown = b"".join(_for_people(body))
    assert re.search(rb"[^ -~\n]", shown) is None
    assert len(shown) <= max(LINES_LIMIT, 4 * len(body)) + 1
    try:
        value = json.loads(body)
        lines = json.dumps(value, indent=2)
    except (ValueError, RecursionError):
        return False
    assert len(body) > JSON_LIMIT or len(lines) > LINES_LIMIT or shown.decode() == f"{lines}\n"
    return True


SHOWN: Target[bytes] = Target(
    "answer on a terminal",
    nearly_bytes(written(JSON), 1),
    check_shown,
    kept=(
        b"",
        b"\x1b[2J",
        b"\r\n\r",
        '"\u202e\x9b"'.encode(),
        b"\xff" * 70_000,
        b"[" * 5000,
        b"9" * 5000,
        b"NaN",
        b'"\\ud800"',
        b"\xef\xbb\xbf[]",
    ),
    share=0.2,
    large=(lambda size: b"[" * size, lambda size: b"[" + b"{}," * (size // 3) + b"{}]", lambda size: b"\x1b" * size),
    limit=1024 * 1024,
)

TARGETS = (BROKEN_YES, SHOWN)

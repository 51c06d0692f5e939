"""Inputs that are nearly right: what a parser is made for, with a few things done to it that its author forgot."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

ANY_CHARACTER = st.characters(exclude_categories=())
"""Lone surrogates among them."""
ODD_TEXT = (
    *("", "\0", "\r\n", "\n", "\r", "\t", " ", "  ", "\x0b", "\x1b[2J", "\x7f", "\x85", "\xa0", "\u2028", "\u202e"),
    *("\ufeff", "\ud800", "\udcff", "\U0001f512", "ü", "²", "\u0661", "\u3002", "\uff0f", "ſ", "\u0130"),
    *("%", "%00", "%0d%0a", "%25", "%2", "%zz", "%c0%ae", "%ed%a0%80", "%f8%88%80%80%80", "%FF", "%26", "%3D"),
    *("&", "=", ";", "+", "?", "#", "/", "//", "/../", "\\", "@", ":", "::", "[", "]", "<", ">", '"', "'", "`", "|"),
    *("{", "}", ",", ".", "..", "-", "--", "_", "*", "$(id)", "~", "~root", "=\n", "://", "[::1]", ".evil.example"),
    *("0", "-1", "1e999", "nan", "inf", "0x10", "1_0", "9" * 20, "9" * 5000, "0." + "1" * 400, "x" * 5000),
    *("null", "true", "NaN", "[" * 300, "[" * 20_000, '{"a":' * 3000, "(" * 300),
)
ODD_BYTES = (
    *(text.encode(errors="surrogatepass") for text in ODD_TEXT),
    *(b"\xff", b"\x80", b"\xc0\xae", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xff\xfe", b"\x1f\x8b\x08\x00"),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 10**12, 10**18, 10**400, -(10**400), 0.5, -0.0, 1e300, float("nan")),
    *(float("inf"), float("-inf"), "", "\0", "\n", "\ud800", "ü", "1", "x" * 5000, [], [0], [[]], [""], {}, {"": 0}),
    *({"a": {"b": []}}, ["a", 1], "https://server.example/", "http://127.0.0.1:0/", "http://[", "none", "required"),
)
ANY_TEXT = st.text(ANY_CHARACTER, max_size=30) | st.sampled_from(ODD_TEXT)
JSON: SearchStrategy[Any] = st.recursive(
    st.sampled_from(ODD_VALUES) | st.integers() | st.floats() | st.text(ANY_CHARACTER, max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def one_of_words(text: str) -> SearchStrategy[str]:
    """Draw one of the words of a text."""
    return st.sampled_from(text.split())


@st.composite
def nearly(draw: DrawFn, right: SearchStrategy[str], most: int = 3, odd: SearchStrategy[str] | None = None) -> str:
    """Draw a text that is right, and do up to `most` things to it: half of all stay as they are."""
    text = draw(right)
    for _ in range(draw(st.sampled_from([0] * most + list(range(1, most + 1))))):
        text = _changed(draw, text, draw(odd or ANY_TEXT))
    return text


@st.composite
def nearly_bytes(draw: DrawFn, right: SearchStrategy[bytes], most: int = 3) -> bytes:
    """Draw bytes that are right, and do up to `most` things to them."""
    content = draw(right)
    for _ in range(draw(st.sampled_from([0] * most + list(range(1, most + 1))))):
        content = _changed(draw, content, draw(st.sampled_from(ODD_BYTES) | st.binary(max_size=8)))
    return content


def _changed(draw: DrawFn, text: Any, odd: Any) -> Any:
    start = draw(st.integers(0, len(text)))
    end = min(start + draw(st.sampled_from([0, 0, 1, 2, 8, 10**6])), len(text))
    match draw(one_of_words("insert replace remove double swap cut")):
        case "insert":
            return text[:start] + odd + text[start:]
        case "replace":
            return text[:start] + odd + text[end:]
        case "remove":
            return text[:start] + text[end:]
        case "double":
            return text[:end] + text[start:end] + text[end:]
        case "swap":
            return text[:start] + text[start:end].swapcase() + text[end:]
        case _:
            return text[:start]


@st.composite
def nearly_json(draw: DrawFn, right: SearchStrategy[Any], most: int = 3) -> Any:
    """Draw a JSON value that is right, and put up to `most` odd things somewhere into it."""
    value = draw(right)
    for _ in range(draw(st.sampled_from([0] * most + list(range(1, most + 1))))):
        value = _edited(draw, value)
    return value


def _edited(draw: DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        match draw(one_of_words("into into into into remove add")):
            case "into":
                return {**value, key: _edited(draw, value[key])}
            case "remove":
                return {name: one for name, one in value.items() if name != key}
            case _:
                return {**value, draw(st.text(max_size=5)): draw(JSON)}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], _edited(draw, value[index]), *value[index + 1 :]]
    return draw(JSON)


@st.composite
def written(draw: DrawFn, values: SearchStrategy[Any]) -> bytes:
    """Write JSON as others may: indented or not, escaped or not, now and then with a member twice, or in UTF-16."""
    value = draw(values)
    text = json.dumps(value, indent=draw(st.sampled_from([None, 1])), ensure_ascii=draw(st.booleans()))
    if isinstance(value, dict) and value and draw(st.integers(0, 9)) == 0:
        key = draw(st.sampled_from(sorted(value)))
        text = text.rstrip()[:-1] + f",{json.dumps(key)}:{json.dumps(draw(JSON))}}}"
    encoding = draw(st.sampled_from(["utf-8"] * 9 + ["utf-8-sig", "utf-16", "utf-32-le"]))
    return text.encode(encoding, errors="surrogatepass")

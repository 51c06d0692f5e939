"""`scripts/bench token`: what `token` takes when the stored token is valid, beside a bare Python's start and gh."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.speed import stored
from tests.speed.conditions import conditions
from tests.speed.figures import Bar, bars_svg, median, milliseconds, shown, table, times
from tests.speed.installed import NotInstalledError, debian_package
from tests.speed.stored import Installation, Ran, RunFailedError

RUNS = 30
GH = "gh auth token"
BARE = "python -c pass"
MANY = 10_000
_GH_TOKEN = "gho_" + 36 * "a"


@dataclass(frozen=True)
class Row:
    """One command that is measured. `base` is the bare Python of the same environment."""

    name: str
    command: Sequence[str]
    variables: Mapping[str, str]
    base: str
    expected: str = ""
    ours: bool = False

    def run(self) -> Ran:
        """Run it once. Raises RunFailedError also where it prints anything else than it should."""
        ran = stored.run(self.command, self.variables)
        if ran.stdout.decode().strip() != self.expected:
            raise RunFailedError(f"{self.name}: another stdout than expected")
        return ran


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench token", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"of each row ({RUNS})")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="also write the result as Markdown and SVG there")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="storedbench-") as folder:
        rows, remarks = _rows(Path(folder))
        said = conditions(options.runs)
        seconds = stored.in_turns({row.name: row.run for row in rows}, options.runs)
        peaks = {row.name: stored.peak(row.command, row.variables) for row in rows}
    text = _report(said, rows, seconds, peaks, remarks)
    print(text)
    stored.write(options.write, {"token.md": text, "token.svg": _drawing(rows, seconds)})
    return 0


# -- what is measured --------------------------------------------------------------------------


def _rows(folder: Path) -> tuple[list[Row], list[str]]:
    one, many = folder / "one", folder / "many"
    stored.fill(one, 1)
    stored.fill(many, MANY)
    rows, remarks = [], []
    parts: list[Callable[[], tuple[list[Row], str]]] = [
        partial(_installed, one, many),
        partial(_editable, one),
        partial(_gh, folder / "gh"),
    ]
    for part in parts:
        try:
            more, remark = part()
        except NotInstalledError as error:
            more, remark = [], f"Left out: {part.func.__name__.strip('_')}: {error}."  # type: ignore[attr-defined]
            print(remark, file=sys.stderr)
        rows += more
        remarks.append(remark)
    return rows, remarks


def _installed(one: Path, many: Path) -> tuple[list[Row], str]:
    """The command as users have it."""
    wheel = stored.from_wheel()
    named = stored.environment(many, LOOPBACK_AUTH_ACCOUNT=stored.name(MANY // 2))
    command = [wheel.script, "token"]
    rows = [
        _bare(BARE, wheel, one),
        _token("loopback-auth token", command, stored.environment(one), BARE),
        _token("loopback-auth token, 10 000 stored", command, stored.environment(many), BARE),
        _token("loopback-auth token NAME, 10 000", [*command, stored.name(MANY // 2)], stored.environment(many), BARE),
        _token("… by variable, 10 000", command, named, BARE),
        _token("python -m loopback_auth token", [wheel.python, "-m", *_MODULE], stored.environment(one), BARE),
    ]
    return rows, f"`loopback-auth` and `{BARE}`: installed from a wheel, its script written by {wheel.by}."


def _editable(one: Path) -> tuple[list[Row], str]:
    """The command as its own developers have it."""
    here = stored.editable()
    base = f"{BARE}, editable"
    imports_re = "import re\n" in Path(here.script).read_text()
    rows = [
        _bare(base, here, one),
        _token("loopback-auth token, editable", [here.script, "token"], stored.environment(one), base),
        _token("python -m …, editable", [here.python, "-m", *_MODULE], stored.environment(one), base),
    ]
    remark = f"`editable`: `.venv`, its script written by {here.by}"
    if imports_re:
        rows.append(Row("python -c 'import re', editable", [here.python, "-c", "import re"], rows[0].variables, base))
        remark += ", which has it import `re` before anything of ours runs"
    return rows, f"{remark}."


_MODULE = ("loopback_auth", "token")


def _bare(name: str, installation: Installation, home: Path) -> Row:
    return Row(name, [installation.python, "-c", "pass"], stored.environment(home), name)


def _token(name: str, command: Sequence[str], variables: Mapping[str, str], base: str) -> Row:
    return Row(name, command, variables, base, stored.ACCESS, ours=True)


def _gh(config: Path) -> tuple[list[Row], str]:
    """Debian's gh, with a token in its file."""
    root, version = debian_package("gh")
    config.mkdir()
    hosts = config / "hosts.yml"
    hosts.write_text(f"github.com:\n    user: bench\n    oauth_token: {_GH_TOKEN}\n    git_protocol: https\n")
    hosts.chmod(0o600)
    command = [str(root / "usr" / "bin" / "gh"), "auth", "token"]
    variables = stored.environment(config, GH_CONFIG_DIR=str(config), GH_NO_UPDATE_NOTIFIER="1")
    return [Row(GH, command, variables, "", _GH_TOKEN)], f"gh: Debian's {version}, its token in hosts.yml, no network."


# -- what is said ------------------------------------------------------------------------------

_EXPLAINED = """\
Milliseconds from the start of a process to its end, stdout in a pipe: median (quartiles). `× bare`: of the bare Python
of the same environment. `MiB`: the most it had resident; less than the {} of the small Python that starts it cannot be
seen."""


def _report(
    said: str,
    rows: Sequence[Row],
    seconds: Mapping[str, Sequence[float]],
    peaks: Mapping[str, float],
    remarks: Sequence[str],
) -> str:
    shown_rows = [
        [
            row.name,
            milliseconds(seconds[row.name]),
            times(seconds[row.base], seconds[row.name]) if row.base else "",
            times(seconds[GH], seconds[row.name]) if GH in seconds else "",
            shown(peaks[row.name]),
        ]
        for row in rows
    ]
    floor = stored.peak(["/bin/true"], {})
    parts = [
        said,
        table(["command", "ms", "× bare", "× gh", "MiB"], shown_rows),
        _EXPLAINED.format(shown(floor)),
        "\n".join(remarks),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _drawing(rows: Sequence[Row], seconds: Mapping[str, Sequence[float]]) -> str:
    bars = [Bar(row.name, [one * 1000 for one in seconds[row.name]], ours=row.ours) for row in rows]
    bars.sort(key=lambda bar: median(bar.values))
    return bars_svg("A valid stored token, printed", "milliseconds", bars)

"""A person without a screen, as `$BROWSER`: logs in as whom the login page expects, and does what a plan says.

The plan is a JSON file, named by `VISITOR_PLAN`: user id → what is done differently. `as`: another user logs in;
`decision`: `deny`; `wrong_first`: a wrong password, then the right one; `leave`: goes away at the consent page;
`fail`: ends with a status; `wait`: seconds before Allow. Each visit adds a line to `VISITOR_LOG`: the user id.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.walker import Walker  # a program of its own: the path is set above

PASSWORDS = {
    "cafe-roma": "espresso",
    "bistro-lyon": "baguette",
    "trattoria-napoli": "margherita",
    "zoes-diner": "pancakes",
}
"""As the sandbox's login page prints them."""
ANY_OTHER = "practice"


def visit(url: str, plan: dict[str, dict[str, Any]], log: Path) -> int:
    walker = Walker(ca_file=os.environ.get("VISITOR_CA_FILE"))
    walker.open(url)
    form = walker.login_form()
    if form is None:
        with log.open("a") as file:
            file.write(f"no login form at {walker.status}\n")
        return 0
    expected = dict(form.fields)["user_id"]
    with log.open("a") as file:
        file.write(f"{expected}\n")
    todo = plan.get(expected, {})
    if "fail" in todo:
        return int(todo["fail"])
    user = str(todo.get("as", expected))
    password = PASSWORDS.get(user, ANY_OTHER)
    if todo.get("wrong_first"):
        walker.log_in(user, "s3kr1t-wrong")
        assert walker.login_form() is not None
    walker.log_in(user, password)
    if todo.get("leave"):
        return 0
    time.sleep(float(todo.get("wait", 0)))
    walker.decide(str(todo.get("decision", "allow")))
    return 0


if __name__ == "__main__":
    sys.exit(
        visit(
            sys.argv[-1],
            json.loads(Path(os.environ["VISITOR_PLAN"]).read_text()),
            Path(os.environ["VISITOR_LOG"]),
        )
    )

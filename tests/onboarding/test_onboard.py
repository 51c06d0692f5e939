"""`onboard` from outside: a manifest, a person at the browser, and what is stored, said and returned."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import signal

from ..endpoints.servers import listening
from .conftest import Onboarder, sent_home, until

TWO = ("cafe-roma,sandbox,4711,cafe-roma,", "bistro,sandbox,4712,bistro-lyon,the second one")
MANY = tuple(f"r{number},sandbox,{5000 + number},restaurant-{number}," for number in range(1, 5))


async def test_every_account_is_logged_in(onboarder: Onboarder) -> None:
    """Each account of the manifest is logged in once, to its own company, and usable from then on."""
    onboarder.write(*TWO)
    program = onboarder.program
    ended = await program.run("onboard", "accounts.csv", environment=onboarder.environment)
    assert (ended.status, ended.stdout) == (0, "")
    assert onboarder.visits == ["cafe-roma", "bistro-lyon"]
    assert [program.tokens(name).members["company"]["id"] for name in ("cafe-roma", "bistro")] == ["4711", "4712"]
    assert "cafe-roma: logging in as cafe-roma\n" in ended.stderr
    assert re.search(r"^bistro: done after \d+\.\d s: Bistro Lyon \(company 4712\)$", ended.stderr, re.MULTILINE)
    assert ended.stderr.endswith("2 of 2 accounts done. See them: loopback-auth status\n")
    assert (await program.run("token", "bistro")).stdout == program.tokens("bistro").access_token + "\n"


async def test_what_is_done_is_not_done_again(onboarder: Onboarder) -> None:
    """A second run opens nothing; one with a new row opens that alone; --redo opens what it names."""
    onboarder.write(TWO[0])
    program = onboarder.program
    for rows, flags, opened in (
        (TWO[:1], (), ["cafe-roma"]),
        (TWO[:1], (), []),
        (TWO, (), ["bistro-lyon"]),
        (TWO, ("--redo", "cafe-roma"), ["cafe-roma"]),
    ):
        onboarder.write(*rows)
        before = len(onboarder.visits)
        ended = await program.run("onboard", "accounts.csv", *flags, environment=onboarder.environment)
        assert (ended.status, onboarder.visits[before:]) == (0, opened)
        if not opened:  # neither windows nor a board
            assert ended.stderr == "1 of 1 account done. See them: loopback-auth status\n"
    assert program.tokens("cafe-roma").members["generation"] == 2


async def test_what_is_stored_is_another_company(onboarder: Onboarder) -> None:
    """An account that is stored for another company than the manifest expects is not done: it is logged in again."""
    onboarder.write("cafe,sandbox,,cafe-roma,")
    program = onboarder.program
    assert (await program.run("onboard", "accounts.csv", environment=onboarder.environment)).status == 0
    onboarder.write("cafe,sandbox,4712,bistro-lyon,")
    ended = await program.run("onboard", "accounts.csv", environment=onboarder.environment)
    assert (ended.status, onboarder.visits) == (0, ["cafe-roma", "bistro-lyon"])
    assert program.tokens("cafe").members["company"]["id"] == "4712"


async def test_another_company_than_expected(onboarder: Onboarder) -> None:
    """Tokens of another company are not stored under that name; the row says whose they were; the rest goes on."""
    onboarder.write("liar,sandbox,4711,trattoria-napoli,", TWO[1])
    program = onboarder.program
    ended = await program.run("onboard", "accounts.csv", "--json", environment=onboarder.environment)
    assert ended.status == 7
    liar, bistro = json.loads(ended.stdout)
    assert (liar["state"], liar["company"]) == ("wrong account", {"id": "4713", "name": "Trattoria Napoli"})
    assert liar["message"] == "you logged in to Trattoria Napoli (company 4713), and account liar is for company 4711"
    assert (bistro["state"], bistro["company"]["id"], bistro["generation"]) == ("done", "4712", 1)
    assert not (program.home / "accounts/liar/tokens").exists()
    assert "loopback-auth: error: account liar: wrong account: you logged in to Trattoria Napoli" in ended.stderr


async def test_what_people_do(onboarder: Onboarder) -> None:
    """Deny is said and goes no further; a wrong password first is no matter; the highest status is returned."""
    onboarder.plan = {"restaurant-1": {"decision": "deny"}, "restaurant-2": {"wrong_first": True}}
    onboarder.write(*MANY)
    ended = await onboarder.program.run("onboard", "accounts.csv", "--json", environment=onboarder.environment)
    assert ended.status == 6
    assert [row["state"] for row in json.loads(ended.stdout)] == ["denied", "done", "done", "done"]
    assert "3 of 4 accounts done, 1 denied" in ended.stderr
    assert "loopback-auth: hint: the same command does only what is missing: loopback-auth onboard accounts.csv" in (
        ended.stderr.splitlines()
    )


async def test_nobody_comes_back(onboarder: Onboarder) -> None:
    """An account whose person goes away times out alone; a browser's command that fails is said at once."""
    onboarder.plan = {"restaurant-1": {"leave": True}, "restaurant-2": {"fail": 3}}
    onboarder.write(*MANY)
    ended = await onboarder.program.run(
        "onboard", "accounts.csv", "--json", "--timeout", "3s", environment=onboarder.environment
    )
    rows = json.loads(ended.stdout)
    assert [row["state"] for row in rows] == ["timed out", "failed", "done", "done"]
    assert [row["exit_status"] for row in rows] == [5, 4, 0, 0]
    assert rows[1]["message"] == "the browser's command ended with 3"
    assert ended.status == 5


async def test_several_windows_at_once(onboarder: Onboarder) -> None:
    """With --parallel 3 three people are at it at once, told apart by their state: each gets the own company."""
    onboarder.plan = {f"restaurant-{number}": {"wait": 4 - number} for number in range(1, 4)}
    onboarder.write(*MANY[:3])
    program = onboarder.program
    async with program.start(
        "onboard", "accounts.csv", "--parallel", "3", environment=onboarder.environment
    ) as running:
        await until(lambda: len(onboarder.visits) == 3)
        assert "done after" not in running.stderr
        ended = await running.end()
    assert ended.status == 0
    assert [program.tokens(f"r{n}").members["company"]["id"] for n in (1, 2, 3)] == ["5001", "5002", "5003"]


async def test_names_from_a_pipe(onboarder: Onboarder) -> None:
    """A name a line on stdin is enough; what all share is said by flags."""
    onboarder.plan = {"": {"as": "cafe-roma"}}  # nobody has said who: the page expects nobody
    ended = await onboarder.program.run(
        "onboard", "-", "--server", "sandbox", stdin=b"one\ntwo\n", environment=onboarder.environment
    )
    assert (ended.status, onboarder.visits) == (0, ["", ""])
    assert "two: done" in ended.stderr
    assert "Cafe Roma (company 4711); the same company as account one" in ended.stderr


async def test_the_example(onboarder: Onboarder) -> None:
    """What --new-manifest prints is a manifest: with a client it can be run as it is."""
    program = onboarder.program
    printed = await program.run("onboard", "--new-manifest")
    assert (printed.status, printed.stderr) == (0, "")
    onboarder.manifest.write_text(printed.stdout)
    ended = await program.run("onboard", "accounts.csv", "--client", "sandbox", environment=onboarder.environment)
    assert (ended.status, onboarder.visits) == (0, ["cafe-roma", "bistro-lyon"])


async def test_forgetting_all_of_a_server(onboarder: Onboarder) -> None:
    """logout --all --server removes the accounts of that server, and no other."""
    onboarder.write(*TWO)
    program = onboarder.program
    assert (await program.run("onboard", "accounts.csv", environment=onboarder.environment)).status == 0
    assert (await program.run("logout", "--all", "--server", "my-idp")).status == 0
    assert len(list(program.home.glob("accounts/*/tokens"))) == 2
    ended = await program.run("logout", "--all", "--server", "sandbox")
    assert (ended.status, ended.stderr.count("was removed from this computer")) == (0, 2)
    assert list(program.home.glob("accounts/*/tokens")) == []


async def test_a_bad_manifest(onboarder: Onboarder) -> None:
    """Every bad row is named, by line and reason, before anything opens."""
    program = onboarder.program
    program.home.mkdir(mode=0o700)
    (program.home / "config.toml").write_text(
        "[clients.other]\nserver = 'sandbox'\nredirect_uri = 'http://127.0.0.1:9/'\n"
        "[clients.no-secret]\nserver = 'lightspeed-l-staging'\nclient_id = 'x'\nredirect_uri = 'http://127.0.0.1:0/'\n"
    )
    onboarder.write(TWO[0], "-bad,sandbox,,,", "b,nosuch,,,", "c,other,,,", "d,no-secret,,,", "cafe-roma,,,,")
    ended = await program.run("onboard", "accounts.csv", environment=onboarder.environment)
    assert (ended.status, onboarder.visits) == (3, [])
    lines = [line for line in ended.stderr.splitlines() if ": error: accounts.csv, line " in line]
    assert [re.findall(r"line (\d+):", line)[0] for line in lines] == ["3", "4", "7"]
    onboarder.write(TWO[0], "c,other,,,", "d,no-secret,,,")
    ended = await program.run("onboard", "accounts.csv", environment=onboarder.environment)
    assert (ended.status, onboarder.visits) == (3, [])
    assert (
        "accounts.csv, line 3: its redirect_uri is http://127.0.0.1:9/, and that of line 2 is http://127.0.0.1:0/"
        in ended.stderr
    )
    assert "accounts.csv, line 4: the client_secret of x is missing" in ended.stderr


async def test_an_account_of_another_client(onboarder: Onboarder) -> None:
    """An account that is stored for another client is not replaced unless --redo names it."""
    program = onboarder.program
    program.home.mkdir(mode=0o700)
    (program.home / "config.toml").write_text(
        "[servers.second]\nauthorization_endpoint = 'http://127.0.0.1:9/a'\ntoken_endpoint = 'http://127.0.0.1:9/t'\n"
        "[clients.second]\nserver = 'second'\nclient_id = 'x'\n"
    )
    onboarder.write(TWO[0])
    assert (await program.run("onboard", "accounts.csv", environment=onboarder.environment)).status == 0
    onboarder.write("cafe-roma,second,,,")
    ended = await program.run("onboard", "accounts.csv", environment=onboarder.environment)
    assert ended.status == 3
    assert "line 2: account cafe-roma belongs to client sandbox at sandbox" in ended.stderr
    assert program.tokens("cafe-roma").members["generation"] == 1


async def test_a_server_that_is_not_there(onboarder: Onboarder) -> None:
    """Where no account can succeed, windows are not opened for all: the others say why they were held back."""
    program = onboarder.program
    program.home.mkdir(mode=0o700)
    dead = program.free_port()
    (program.home / "config.toml").write_text(
        f"[servers.dead]\nauthorization_endpoint = 'http://127.0.0.1:{dead}/a'\n"
        f"token_endpoint = 'http://127.0.0.1:{dead}/t'\n[clients.acme]\nserver = 'dead'\nclient_id = 'x'\n"
    )
    onboarder.write(*(f"a{number},acme,,," for number in range(5)))
    ended = await program.run("onboard", "accounts.csv", "--json", environment=onboarder.environment)
    rows = json.loads(ended.stdout)
    assert ended.status == 9
    assert [row["state"] for row in rows] == ["failed", *["waiting"] * 4]
    assert {row["message"].partition(":")[0] for row in rows[1:]} == {"not opened"}
    assert len(onboarder.visits) <= 1


async def test_interrupted_and_resumed(onboarder: Onboarder) -> None:
    """Ctrl-C keeps what was logged in, leaves nothing behind, and the same command goes on from there."""
    onboarder.plan = {"restaurant-2": {"wait": 60}}
    onboarder.write(*MANY)
    program = onboarder.program
    async with program.start("onboard", "accounts.csv", environment=onboarder.environment) as running:
        await running.says("r1: done")
        await until(lambda: len(onboarder.visits) == 2)
        running.send_signal(signal.SIGINT)
        ended = await running.end()
    assert ended.status == 130
    assert "interrupted: 1 of 4 accounts done, 3 waiting; what was logged in is stored" in ended.stderr
    assert not list((program.home / "windows").glob("window-*"))
    sent_home(program)
    onboarder.plan = {}
    ended = await program.run("onboard", "accounts.csv", environment=onboarder.environment)
    assert (ended.status, onboarder.visits) == (0, [f"restaurant-{n}" for n in (1, 2, 2, 3, 4)])


async def test_interrupted_while_the_company_is_asked_for(onboarder: Onboarder) -> None:
    """What was stored before Ctrl-C counts as done, though nobody knows yet whose it is."""
    program = onboarder.program
    program.home.mkdir(mode=0o700)

    async def never(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with listening(never) as silent:
        api_base = silent.url.removesuffix("token")
        (program.home / "config.toml").write_text(f"[servers.sandbox]\napi_base = '{api_base}'\n")
        onboarder.write("r1,sandbox,,restaurant-1,", MANY[1])
        async with program.start("onboard", "accounts.csv", environment=onboarder.environment) as running:
            await until((program.home / "accounts/r1/tokens").exists)
            await asyncio.sleep(0.3)
            running.send_signal(signal.SIGINT)
            ended = await running.end()
    assert ended.status == 130
    assert "interrupted: 1 of 2 accounts done, 1 waiting" in ended.stderr


async def test_a_power_cut_and_a_resume(onboarder: Onboarder) -> None:
    """A killed run loses nothing that was obtained, and the next one does only what is missing."""
    onboarder.plan = {"restaurant-3": {"wait": 60}}
    onboarder.write(*MANY)
    program = onboarder.program
    async with program.start("onboard", "accounts.csv", environment=onboarder.environment) as running:
        await running.says("r2: done")
        await until(lambda: len(onboarder.visits) == 3)
        await running.stop()
    sent_home(program)
    onboarder.plan = {}
    ended = await program.run("onboard", "accounts.csv", environment=onboarder.environment)
    assert ended.status == 0
    assert [program.tokens(f"r{n}").members["generation"] for n in (1, 2, 3, 4)] == [1, 1, 1, 1]


async def test_one_login_of_an_account_at_a_time(onboarder: Onboarder) -> None:
    """While an account is being logged in, another login of it opens nothing and says so; token never opens one."""
    onboarder.plan = {"restaurant-1": {"wait": 60}}
    onboarder.write(MANY[0])
    program = onboarder.program
    async with program.start("onboard", "accounts.csv", environment=onboarder.environment) as running:
        await until(lambda: onboarder.visits == ["restaurant-1"])
        login = await program.run("login", "r1", "--server", "sandbox")
        assert (login.status, login.errors) == (8, ["a login of account r1 is under way already"])
        token = await program.run("token", "r1")
        assert token.status == 4
        second = await program.run("onboard", "accounts.csv", environment=onboarder.environment)
        assert second.status == 8
        assert "account r1: failed" in second.stderr
        running.send_signal(signal.SIGTERM)
        await running.end()
    assert onboarder.visits == ["restaurant-1"]
    sent_home(program)


async def test_the_report(onboarder: Onboarder) -> None:
    """--report writes a row for each account, whatever became of it; one that cannot be written stops all before."""
    onboarder.plan = {"bistro-lyon": {"decision": "deny"}}
    onboarder.write(*TWO)
    program = onboarder.program
    ended = await program.run("onboard", "accounts.csv", "--report", "r/report.csv", environment=onboarder.environment)
    assert (ended.status, onboarder.visits) == (3, [])
    ended = await program.run("onboard", "accounts.csv", "--report", "report.csv", environment=onboarder.environment)
    assert ended.status == 6
    with (program.folder / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["account"], row["state"], row["company_id"]) for row in rows] == [
        ("cafe-roma", "done", "4711"),
        ("bistro", "denied", ""),
    ]

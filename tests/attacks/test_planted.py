"""What somebody planted beforehand, on every path of ours: refused before anything is spent, or without effect.

Each path is tried with each kind of plant and each command. Whatever is said of it, a command ends, follows no link,
touches nobody else's file, and opens no browser that it then cannot serve.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import pytest

from loopback_auth.oauth.registration import AuthorizationServer
from loopback_auth.oauth.servers import sandbox_at
from loopback_auth.redirect.certificate import own_leaf
from loopback_auth.store.base import STAGE_LIMIT
from loopback_auth.store.lock import is_at
from tests.attacks.forked import HUNG, Commands
from tests.ended import Ended
from tests.faults.conftest import far
from tests.faults.machine import Far, Trial, far_side
from tests.store.planted import STRANGER, as_root, mode, run_hint

__all__ = ["far"]

MARK = "s3kr1t-"
VICTIM = b"the victim's own words\n"
PUBLISHED = sandbox_at(1).client_secret or ""
AT_ONCE = 3


class Scene:
    """A home with one expired account in it, a file of somebody else's, and a browser that only says that it came."""

    def __init__(self, far: Far, commands: Commands, homes: Path, leaf: Path | None = None) -> None:
        self._far = far
        self._commands = commands
        self.trial: Trial = far.account(homes)
        self.home = self.trial.home
        if leaf is not None:
            (self.home / "certificate").mkdir(mode=0o700)
            shutil.copy2(leaf, self.home / "certificate" / "localhost.pem")
        self.victims = homes / f"victims-of-{self.home.name}"
        self.victims.mkdir()
        (self.victims / "file").write_bytes(VICTIM)
        self._browser = homes / f"browser-of-{self.home.name}"
        base = f"http://127.0.0.1:{far.sandbox.port}/resto/oauth2/v1"
        self.server = AuthorizationServer(
            name="mine", title="Mine", authorization_endpoint=f"{base}/authorize", token_endpoint=f"{base}/token"
        )
        account = self.trial.stored
        registration = replace(account.registration, server=self.server)
        self.trial.store.save(replace(account, registration=registration, client_secret={"env": "ACME_SECRET"}))
        self.environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(homes),
            "LOOPBACK_AUTH_HOME": str(self.home),
            "LOOPBACK_AUTH_CLIENT_SECRET": PUBLISHED,
            "ACME_SECRET": PUBLISHED,
            "BROWSER": f"/usr/bin/touch {self._browser}",
        }

    def flags(self, *more: str) -> tuple[str, ...]:
        """What `login` is told here; nobody comes to this login."""
        endpoints = ("--authorization-endpoint", self.server.authorization_endpoint)
        return (*endpoints, "--token-endpoint", self.server.token_endpoint, "--client-id", "sandbox",
                "--timeout", "0.05s", *more)  # fmt: skip

    @property
    def spent(self) -> int:
        return self._far.presented(self.trial.refresh_token)

    def run(self, *words: str, **how: object) -> Ended:
        """Run a command and hold it to what is true of all of them."""
        before, spent = picture(self.victims), self.spent
        ended = self._commands.run(*words, environment=self.environment, cwd=self.home.parent, **how)  # type: ignore[arg-type]  # passed on
        opened = self._browser.exists()
        self._browser.unlink(missing_ok=True)
        what = (words, ended)
        assert ended.status != HUNG, what
        assert ended.status in {0, 3, 4, 5, 8}, what
        assert not re.search("unexpected|Traceback|Exception", ended.stderr), what
        assert picture(self.victims) == before, what
        assert opened == (words[0] == "login" and "--finish" not in words and ended.status == 5), what
        if ended.status:
            assert self.spent == spent, what
            assert len(ended.errors) == 1, what
        assert MARK not in (ended.stderr if words[0] == "token" else ended.stdout + ended.stderr)
        return ended


def picture(folder: Path) -> dict[str, tuple[int, ...]]:
    """What is in a folder: names, kinds, modes, owners, sizes, and when it was changed."""
    found: dict[str, tuple[int, ...]] = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        owner = (status.st_uid, status.st_gid)
        found[str(path)] = (status.st_ino, status.st_mode, *owner, status.st_size, status.st_mtime_ns)
    return found


# -- what is planted


def cleared(path: Path) -> Path:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def made(path: Path) -> Path:
    """What should be there, if it is not: a file."""
    if not path.exists():
        cleared(path).touch(0o600)
    return path


def link_to_victim(path: Path, victims: Path) -> None:
    cleared(path).symlink_to(victims / "file")


def link_to_folder(path: Path, victims: Path) -> None:
    cleared(path).symlink_to(victims)


def dangling(path: Path, victims: Path) -> None:
    cleared(path).symlink_to(victims / "not-there")


def link_to_zero(path: Path, _victims: Path) -> None:
    cleared(path).symlink_to("/dev/zero")


def link_to_itself(path: Path, _victims: Path) -> None:
    elsewhere = made(path).with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def hard_link(path: Path, victims: Path) -> None:
    cleared(path).hardlink_to(victims / "file")


def fifo(path: Path, _victims: Path) -> None:
    os.mkfifo(cleared(path), 0o600)


def unix_socket(path: Path, _victims: Path) -> None:
    folder = os.open(cleared(path).parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{folder}/{path.name}")  # a path may be too long for an address
    os.close(folder)


def device(path: Path, _victims: Path) -> None:
    os.mknod(cleared(path), 0o600 | stat.S_IFCHR, os.makedev(1, 5))


def folder(path: Path, _victims: Path) -> None:
    cleared(path).mkdir(0o700)
    (path / "something").touch()


def loose(path: Path, _victims: Path) -> None:
    made(path).chmod(0o777 if path.is_dir() else 0o666)


def given_away(path: Path, _victims: Path) -> None:
    os.chown(made(path), STRANGER, STRANGER)


Plant = Callable[[Path, Path], None]
FILES: list[Plant] = [link_to_victim, link_to_folder, dangling, link_to_zero, link_to_itself, hard_link, fifo,
                      unix_socket, device, folder, loose, given_away]  # fmt: skip
FOLDERS: list[Plant] = [one for one in FILES if one is not folder]
REMOVED: list[Plant] = [link_to_victim, link_to_folder, hard_link, fifo, folder, given_away]
NEED_ROOT = (device, given_away)


def plants(kinds: list[Plant]) -> list[Plant]:
    return [one for one in kinds if os.geteuid() == 0 or one not in NEED_ROOT]


# -- the matrix

STATUS, REFRESH, TOKEN, LOGOUT = ("status", "default"), ("refresh", "--force"), ("token",), ("logout",)
LOGIN, FORCED, HTTPS, START, FINISH = "login", "login --force", "login https", "login --start", "login --finish"
Command = tuple[str, ...] | str
MATRIX: dict[str, tuple[list[Plant], list[Command], list[Command]]] = {
    # the path: what is planted there, who must refuse it with 8, and who may go on without being harmed
    "accounts/default/tokens": (FILES, [STATUS, LOGIN, REFRESH, TOKEN], [FORCED, START, LOGOUT]),
    "accounts/default/lock": (FILES, [LOGIN, FORCED, START, REFRESH, TOKEN, LOGOUT], [STATUS]),
    "accounts/default/intent": (FILES, [STATUS, LOGIN, FORCED, START, REFRESH, TOKEN, LOGOUT], []),
    "accounts/default/answer": (REMOVED, [], [LOGIN, REFRESH, LOGOUT]),
    "accounts/default/answer.1": (REMOVED, [], [TOKEN, LOGOUT]),
    "accounts/default/last-error": (FILES, [STATUS, REFRESH, TOKEN], [LOGIN, LOGOUT]),
    "accounts/default/login-0badcafe-intent": (FILES, [LOGIN, FORCED, START, REFRESH, TOKEN, LOGOUT], [STATUS]),
    "accounts/default/login-0badcafe-answer": (FILES, [LOGIN, START, REFRESH, TOKEN], [STATUS, LOGOUT]),
    "accounts/default/login": (FILES, [FINISH], [START, REFRESH, LOGOUT]),
    "accounts/default": (FOLDERS, [STATUS, LOGIN, START, REFRESH, TOKEN], [LOGOUT]),
    "accounts": (FOLDERS, [LOGIN, START], [STATUS, REFRESH, LOGOUT]),
    "certificate": (FOLDERS, [HTTPS], []),
    "certificate/localhost.pem": (FILES, [HTTPS], []),
    ".": ([loose, given_away], [LOGIN, FORCED, START, REFRESH, TOKEN, LOGOUT], [STATUS]),
}


@pytest.fixture(scope="module")
def tried(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """Try what was asked for, some paths at once: the commands wait more than they work."""
    wanted = [one.callspec.params["path"] for one in request.session.items
              if one.path == request.path and hasattr(one, "callspec") and "path" in one.callspec.params]  # fmt: skip
    rows: SimpleQueue[tuple[str, Future[None]] | None] = SimpleQueue()
    futures: dict[str, Future[None]] = {path: Future() for path in wanted}
    for row in (*futures.items(), *[None] * AT_ONCE):
        rows.put(row)
    leaf = own_leaf(tmp_path_factory.mktemp("certificate", numbered=False))[0]

    def work() -> None:
        homes = tmp_path_factory.mktemp("homes")
        with far_side(homes / "sandbox") as far, Commands() as commands:
            while (row := rows.get()) is not None:
                path, future = row
                try:
                    for plant in plants(MATRIX[path][0]):
                        try_plant(Scene(far, commands, homes, leaf), path, plant)
                    future.set_result(None)
                except BaseException as error:
                    future.set_exception(error)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        working = [pool.submit(work) for _ in range(AT_ONCE)]
        yield futures
    for one in working:
        one.result()


def performed(scene: Scene, command: Command, **how: object) -> Ended:
    match command:
        case "login --force":
            return scene.run("login", *scene.flags("--force"), **how)
        case "login https":
            return scene.run("login", *scene.flags("--force", "--redirect-uri", "https://localhost:0/"), **how)
        case "login --start":
            return scene.run("login", *scene.flags("--start"), **how)
        case str():
            return scene.run(*command.split(), *(() if command == FINISH else scene.flags()), **how)
        case _:
            return scene.run(*command, **how)


def try_plant(scene: Scene, path: str, plant: Plant) -> None:
    """Plant, and run all commands: those that must refuse, and after them those that may remove what is planted."""
    _, refusing, others = MATRIX[path]
    if FINISH in refusing:
        assert performed(scene, START).status == 0
    plant(scene.home / path, scene.victims)
    for command in refusing:
        ended = performed(scene, command)
        assert ended.status == 8, (path, plant.__name__, ended)
        assert scene.spent == 0, (path, plant.__name__, ended)
    if plant is loose:  # what the hint says, typed as it stands, mends it
        for command in refusing[:1]:
            (hint,) = performed(scene, command).hints
            run_hint(hint)
            assert performed(scene, command).status != 8, (path, hint)
    for command in others:
        performed(scene, command)
    tokens = scene.trial.folder / "tokens"
    if os.path.lexists(tokens) and scene.spent:
        assert (mode(tokens), tokens.lstat().st_nlink, tokens.is_symlink()) == ("0600", 1, False)


@pytest.mark.parametrize("path", MATRIX)
def test_planted(tried: dict[str, Future[None]], path: str) -> None:
    """A link, FIFO, socket, device, folder, stranger's or open file there is refused with 8, or does no harm."""
    tried[path].result()


@pytest.mark.parametrize("command", [FORCED, START])
def test_folder_in_the_place_of_the_tokens(scene: Scene, command: str) -> None:
    """A new login replaces tokens that cannot be read; where it could not, it is refused before a browser opens."""
    folder(scene.trial.folder / "tokens", scene.victims)
    ended = performed(scene, command)
    assert (ended.status, len(ended.hints)) == (8, 1)


def test_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    """A lock whose folder became a file, or a link that leads in a circle, is not where it was: no crash."""
    path = tmp_path / "default"
    path.touch(0o600)
    with path.open() as file:
        assert not is_at(file.fileno(), str(path / "lock"))
        path.unlink()
        path.symlink_to(path)
        assert not is_at(file.fileno(), str(path / "lock"))


# -- an odd surrounding


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with Commands() as commands:
        yield commands


@pytest.fixture
def scene(far: Far, commands: Commands, tmp_path: Path) -> Scene:
    return Scene(far, commands, tmp_path)


def private(scene: Scene) -> None:
    """Whatever is in the home is for this user alone, and nothing was printed into it."""
    for path in scene.home.rglob("*"):
        status = path.lstat()
        assert status.st_mode & 0o077 == 0, path
        assert path.name != "lock" or status.st_size == 0, path
        assert path.is_dir() or b"loopback-auth: " not in path.read_bytes(), path


@pytest.mark.parametrize("umask", [0o000, 0o177, 0o777])
def test_umask(scene: Scene, umask: int) -> None:
    """Whatever the umask, new tokens are 0600: neither others can read them, nor can their owner not."""
    assert scene.run(*REFRESH, umask=umask).status == 0
    assert mode(scene.trial.folder / "tokens") == "0600"
    private(scene)
    assert scene.run(*TOKEN).status == 0
    assert scene.spent == 1


@pytest.mark.parametrize("umask", [0o000, 0o277, 0o777])
def test_umask_of_a_first_login(scene: Scene, umask: int) -> None:
    """A login that makes its folders under an odd umask makes them private, or says before a browser that it cannot."""
    shutil.rmtree(scene.home / "accounts")
    ended = scene.run("login", *scene.flags(), umask=umask)
    assert ended.status == (8 if umask else 5)
    private(scene)


def test_few_descriptors(scene: Scene) -> None:
    """With ever more descriptors to have, a refresh fails before it spends, until it succeeds: none in between."""
    for limit in range(9, 40):
        ended = scene.run(*REFRESH, limits={"RLIMIT_NOFILE": limit})
        if ended.status == 0:
            break
        assert scene.spent == 0, limit
    assert (ended.status, scene.spent) == (0, 1)
    private(scene)


def test_small_files(scene: Scene) -> None:
    """Where no file may be as large as an answer, nothing is spent; where one may, all is well."""
    for limit, status in ((4096, 8), (STAGE_LIMIT - 1, 8), (STAGE_LIMIT, 0)):
        assert scene.run(*REFRESH, limits={"RLIMIT_FSIZE": limit}).status == status
        assert scene.spent == (status == 0)
    private(scene)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
def test_closed_descriptors(scene: Scene, closed: tuple[int, ...]) -> None:
    """Started without standard streams, no file of ours takes their numbers and is printed into."""
    for words in (TOKEN, REFRESH, STATUS):
        assert scene.run(*words, closed=closed).status == 0
        private(scene)
    assert scene.spent == 1
    assert scene.trial.stored.generation == 3


ODD = ["with space", "new\nline", "\x1b[2J", "quote'\"", "$(touch x)", "-rf", "ü☃", "\udcff\udcfe", "%s", "~", "{}",
       "file:", "a" * 200]  # fmt: skip


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_odd_names(scene: Scene, name: str) -> None:
    """A home of any name is used as it is, and shown in printable ASCII."""
    home = scene.home.with_name(name)
    scene.home.rename(home)
    scene.environment["LOOPBACK_AUTH_HOME"] = str(home)
    before = sorted(scene.home.parent.iterdir())
    ended = scene.run(*REFRESH)
    assert (ended.status, scene.spent) == (0, 1)
    (home / "accounts" / "default" / "tokens").chmod(0o644)
    refused = scene.run(*TOKEN)
    assert refused.status == 8
    assert (refused.stderr.isascii(), "\x1b" in refused.stderr) == (True, False)
    assert len(refused.stderr.splitlines()) == 2
    assert sorted(scene.home.parent.iterdir()) == before


def test_sudo(scene: Scene) -> None:
    """Run as another user than the store's owner, no command reads, spends or writes anything there."""
    as_root()
    for path in (scene.home, *scene.home.rglob("*")):
        os.chown(path, STRANGER, STRANGER)
    before = picture(scene.home)
    for command in (STATUS, LOGIN, FORCED, START, REFRESH, TOKEN, LOGOUT):
        ended = performed(scene, command, powerful=True)
        assert ended.status == 8
        assert ended.hints == ["run it as that user, without sudo"]
    assert scene.spent == 0
    assert picture(scene.home) == before


CONFIG_REFUSED = (link_to_folder, link_to_victim, link_to_zero, fifo, unix_socket, device, folder, loose, given_away)


@pytest.mark.parametrize("plant", plants(list(CONFIG_REFUSED)))
def test_planted_config(scene: Scene, plant: Plant) -> None:
    """A config.toml that another user could have written, or that is no file, ends a login with 3, and never hangs."""
    config = scene.home / "config.toml"
    config.write_text("[clients.acme]\nclient_id = 'x'\nclient_secret = { command = ['touch', 'run'] }\n")
    plant(config, scene.victims)
    refused: list[Command] = [LOGIN, START]
    harmless: list[Command] = [STATUS, REFRESH, TOKEN, LOGOUT]  # what is stored needs no config
    assert [performed(scene, command).status for command in refused] == [3, 3]
    assert [performed(scene, command).status for command in harmless] == [0, 0, 0, 0]
    assert not (scene.home.parent / "run").exists()

"""Network file systems: which ones they are, that nothing is spent from there, and that somebody may allow it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import loopback_auth
from loopback_auth import clock
from loopback_auth.clock import Moment
from loopback_auth.errors import LoopbackAuthError, StoreUnsafe
from loopback_auth.grant import Grant
from loopback_auth.login import login
from loopback_auth.refresh import TokenSource
from loopback_auth.secret import Secret
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account
from loopback_auth.store.file import FileStore
from loopback_auth.store.network import is_share, network_file_system
from loopback_auth.two_step import start
from tests.ended import Ended
from tests.endpoints.servers import TokenServer, token_server

from .accounts import ACCESS, REFRESH, REGISTRATION, account
from .planted import as_root, names

ROOT = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard"
HINTS = (
    "put the accounts on a local disk: LOOPBACK_AUTH_STORE=file:/folder",
    "or, if only one machine ever uses them: allow_network_store = true in config.toml",
)


@pytest.fixture
def mountinfo(tmp_path: Path) -> Path:
    return tmp_path / "mountinfo"


def type_at(path: str, mountinfo: Path, *lines: str | bytes) -> str | None:
    mountinfo.write_bytes(b"".join(line.encode() + b"\n" if isinstance(line, str) else line + b"\n" for line in lines))
    return network_file_system(path, str(mountinfo))


# --- which ones ---


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("nfs server:/export rw,vers=3,nolock", "nfs"),
        ("nfs4 server:/export rw,vers=4.2", "nfs4"),
        ("cifs //server/share rw,vers=3.1.1", "cifs"),
        ("smb3 //server/share rw", "smb3"),
        ("smbfs //server/share rw", "smbfs"),
        ("ncpfs SERVER/user rw", "ncpfs"),
        ("afs #root.cell. rw", "afs"),
        ("ceph 10.0.0.1:6789:/ rw", "ceph"),
        ("lustre 10.0.0.1@tcp:/lustre rw", "lustre"),
        ("beegfs beegfs_nodev rw", "beegfs"),
        ("fuse.sshfs user@server:/home/user rw,user_id=0", "fuse.sshfs"),
        ("fuse.glusterfs server:/volume rw", "fuse.glusterfs"),
        ("fuse.rclone remote: rw", "fuse.rclone"),
        ("fuse.s3fs s3fs rw", "fuse.s3fs"),
        ("fuse.gcsfuse bucket rw", "fuse.gcsfuse"),
        ("fuse https://dav.example/files rw,user_id=0", "fuse"),
        ("fuse.davfs2 https://dav.example/files rw", "fuse.davfs2"),
        ("davfs https://dav.example/files rw", "davfs"),
        ("ext4 /dev/sda1 rw", None),
        ("xfs /dev/sda1 rw", None),
        ("btrfs /dev/sda1 rw,subvol=/home", None),
        ("fuseblk /dev/sdb1 rw", None),
        ("fuse gocryptfs rw", None),
        ("fuse.gocryptfs /home/user/.cipher rw", None),
        ("tmpfs tmpfs rw", None),
        ("overlay overlay rw,lowerdir=/a:/b", None),
        ("9p drvfs rw", None),
        ("virtiofs share rw", None),
        ("gfs2 /dev/dlm0 rw", None),
        ("ocfs2 /dev/sdc1 rw", None),
    ],
)
def test_which_file_systems_are_on_a_network(mountinfo: Path, line: str, found: str | None) -> None:
    """Those whose locks may end at this machine; what a container or a cluster with locks is given is local."""
    mount = f"36 27 0:31 / /mnt/far rw,relatime shared:1 - {line}"
    assert type_at("/mnt/far/accounts/default", mountinfo, ROOT, mount) == found
    assert type_at("/mnt/near/accounts/default", mountinfo, ROOT, mount) is None


def test_the_deepest_mount_counts(mountinfo: Path) -> None:
    """A local disk mounted below a share is local, a share below a local disk is not, in whatever order they stand."""
    lines = [
        "40 27 0:40 / /srv rw - nfs4 server:/srv rw",
        "41 40 8:1 / /srv/disk rw - ext4 /dev/sda1 rw",
        "42 41 0:41 / /srv/disk/share rw - cifs //server/share rw",
    ]
    for order in (lines, lines[::-1]):
        for path, found in {
            "/srv": "nfs4",
            "/srv/x": "nfs4",
            "/srv/disk": None,
            "/srv/disk/x": None,
            "/srv/disk/share": "cifs",
            "/srv/disk/share/x/y": "cifs",
            "/srv/diskette": "nfs4",
            "/srvx": None,
            "/": None,
        }.items():
            assert type_at(path, mountinfo, ROOT, *order) == found, path


def test_the_last_mount_on_a_point_counts(mountinfo: Path) -> None:
    """Mounts on one point hide each other: an automounter's trigger, the share on it, and a disk over both."""
    trigger = "50 27 0:50 / /home rw - autofs systemd-1 rw,direct"
    share = "51 50 0:51 / /home rw - nfs4 server:/home rw"
    disk = "52 51 8:2 / /home rw - ext4 /dev/sda2 rw"
    assert type_at("/home/user", mountinfo, ROOT, trigger) is None
    assert type_at("/home/user", mountinfo, ROOT, trigger, share) == "nfs4"
    assert type_at("/home/user", mountinfo, ROOT, trigger, share, disk) is None
    assert type_at("/home/user", mountinfo, ROOT, "60 27 0:60 / / rw - nfs server:/root ro") == "nfs"


def test_a_bind_mount_is_what_it_shows(mountinfo: Path) -> None:
    """A folder of a share that was bound into a local tree, as containers have it: on the network."""
    bound = "70 27 0:51 /users/7/my\\040data /data rw,relatime master:1 propagate_from:2 - nfs4 server:/export rw"
    assert type_at("/data/accounts", mountinfo, ROOT, bound) == "nfs4"


@pytest.mark.parametrize(
    ("written", "path"),
    [
        (rb"/mnt/my\040disk", "/mnt/my disk"),
        (rb"/mnt/tab\011line\012back\134slash", "/mnt/tab\tline\nback\\slash"),
        (rb"/mnt/hash\043040", "/mnt/hash#040"),
        (rb"/mnt/no\134040space", "/mnt/no\\040space"),
        ("/mnt/Büro".encode(), "/mnt/Büro"),
        (b"/mnt/\xff\r\x0b", "/mnt/\udcff\r\x0b"),
    ],
)
def test_names_with_odd_characters(mountinfo: Path, written: bytes, path: str) -> None:
    """Spaces, line ends and backslashes are written in octal there; other bytes are as they are in the path."""
    mount = b"36 27 0:31 / " + written + b" rw - nfs4 server:/x rw"
    assert type_at(f"{path}/accounts", mountinfo, ROOT, mount) == "nfs4"
    assert type_at("/mnt/my", mountinfo, ROOT, mount) is None


def test_a_link_leads_to_where_it_points(tmp_path: Path, mountinfo: Path) -> None:
    """A folder reached through a link, and one that is not there yet, are where their nearest real parent is."""
    far, near = tmp_path / "far", tmp_path / "near"
    far.mkdir()
    near.symlink_to(far)
    mount = f"36 27 0:31 / {far} rw - nfs4 server:/x rw"
    assert type_at(f"{near}/not/yet/there", mountinfo, ROOT, mount) == "nfs4"
    assert type_at(f"{far}/../elsewhere", mountinfo, ROOT, mount) is None


def test_the_disk_of_the_tests_is_local(tmp_path: Path) -> None:
    """As the system itself tells it."""
    assert network_file_system(str(tmp_path)) is None
    assert network_file_system("/proc") is None


def test_where_nobody_can_say_it_is_local(tmp_path: Path, mountinfo: Path) -> None:
    """No mountinfo, as on macOS, none that can be read, or lines that are no mounts: not refused."""
    assert network_file_system(str(tmp_path), str(tmp_path / "absent")) is None
    assert network_file_system(str(tmp_path), str(tmp_path)) is None
    assert type_at("/a", mountinfo, "36 27 0:31 /  rw - nfs4 x rw", "36 27 0:31 / a rw - nfs4 x rw", "- nfs4 x") is None


WORDS = st.sampled_from(
    [b"36", b"27", b"0:31", b"/", b"//", b"/a", rb"/a\040b", rb"\777", rb"\04", b"-", b"nfs4", b"", b"\xff"]
)
LINES = st.lists(WORDS, max_size=14).map(b" ".join)


@given(st.lists(LINES | st.binary(), max_size=6).map(b"\n".join), st.sampled_from(["/", "/a", "/a b/c", "a", ""]))
@example(rb"36 27 0:31 / /a\777 rw - nfs4 x rw", "/a")
@example(b"36 27 0:31 / / rw - ", "/")
@example(b"36 27 0:31 / / rw -", "/")
@example(b" - \n - -\n\n", "/")
def test_any_mountinfo_is_an_answer(tmp_path_factory: pytest.TempPathFactory, content: bytes, path: str) -> None:
    """Whatever stands there: the name of a network file system, or none."""
    mountinfo = tmp_path_factory.getbasetemp() / "any-mountinfo"
    mountinfo.write_bytes(content)
    assert network_file_system(path, str(mountinfo)) in {None, "nfs4"}


@pytest.mark.parametrize(
    ("path", "share"),
    [
        ("\\\\server\\share\\accounts", True),
        ("//server/share/accounts", True),
        ("\\\\?\\UNC\\server\\share", True),
        ("\\\\?\\unc\\server\\share", True),
        ("\\\\wsl.localhost\\Debian\\home", True),
        ("\\\\?\\C:\\Users\\me", False),
        ("\\\\.\\PhysicalDrive0", False),
        ("C:\\Users\\me", False),
        ("C:/Users/me", False),
        ("\\Users", False),
    ],
)
def test_shares_of_windows(path: str, share: bool) -> None:
    """A path that begins with a server is on a share; a drive's letter, and its long form, are not."""
    assert is_share(path) is share


# --- the store ---


@pytest.fixture
def far(tmp_path: Path, mountinfo: Path) -> Path:
    """The folder of accounts, which `mountinfo` has on NFS."""
    mountinfo.write_text(f"{ROOT}\n36 27 0:31 / {tmp_path}/home rw - nfs4 server:/home rw\n")
    return tmp_path / "home" / "accounts"


@pytest.fixture
def store(far: Path, mountinfo: Path) -> Accounts:
    return Accounts(FileStore(str(far), mountinfo=str(mountinfo)))


@pytest.fixture
def allowed(far: Path, mountinfo: Path) -> Accounts:
    return Accounts(FileStore(str(far), allow_network=True, mountinfo=str(mountinfo)))


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with token_server() as server:
        yield server


def stored_at(url: str, age: float) -> Account:
    """Return an account at this token endpoint, whose access token is so old."""
    now = clock.now()
    received = Moment(now.unix - age, now.boot_id, now.uptime - age)
    registration = replace(REGISTRATION, server=replace(REGISTRATION.server, token_endpoint=url))
    return account(registration=registration, received=received, refresh_token_at=received.unix)


def refusal(far: Path, name: str = "default") -> str:
    return f"{far}/{name} is on a network file system (nfs4), where a lock may exclude nobody"


@pytest.mark.parametrize("which", ["refresh", "login"])
def test_a_store_on_a_network_is_not_proven(store: Accounts, allowed: Accounts, far: Path, which: str) -> None:
    """For a refresh and a login alike: exit status 8, what to do about it, and not one file made; allowed, it is."""

    def prove(store: Accounts) -> None:
        with store.journal("cafe") if which == "refresh" else store.login_journal("cafe") as journal:
            journal.prove()

    with pytest.raises(StoreUnsafe) as caught:
        prove(store)
    assert str(caught.value) == refusal(far, "cafe")
    assert caught.value.hint == HINTS
    assert caught.value.exit_status == 8
    assert not far.exists()
    prove(allowed)
    assert names(far) == ["cafe"]


async def test_a_refresh_sends_nothing_from_there(
    store: Accounts, allowed: Accounts, far: Path, server: TokenServer
) -> None:
    """Refused before anything is spent; the account is as it was, and once it is allowed it is refreshed."""
    store.save(stored_at(server.url, 7200))
    before = (far / "default" / "tokens").read_bytes()
    for force in (False, True):
        with pytest.raises(StoreUnsafe) as caught:
            await source(store).refresh(force=force)
        assert (str(caught.value), caught.value.hint) == (refusal(far), HINTS)
    assert server.presented == {}
    assert (far / "default" / "tokens").read_bytes() == before
    assert names(far / "default") == ["last-error", "lock", "tokens"]
    assert await source(allowed).token() == Secret("s3kr1t-access-1")
    assert server.presented == {REFRESH: 1}


async def test_a_stored_token_is_handed_out_from_there(store: Accounts, server: TokenServer) -> None:
    """Reading costs nothing: a good token is the answer, one that ends soon is too, with a warning."""
    warnings: list[LoopbackAuthError] = []
    for age, warned in ((0, []), (3570, [StoreUnsafe])):
        store.save(stored_at(server.url, age))
        assert await source(store, warnings).token() == Secret(ACCESS)
        assert [type(warning) for warning in warnings] == warned
    assert server.presented == {}


def source(store: Accounts, warnings: list[LoopbackAuthError] | None = None) -> TokenSource:
    return TokenSource(
        "default",
        store,
        client_secret=lambda _account: Secret("s3kr1t-client"),
        warn=(warnings if warnings is not None else []).append,
    )


async def test_a_login_there_opens_no_browser(store: Accounts, far: Path) -> None:
    """Refused before a person has done anything, in one step or in two; nothing is kept."""

    def browser(_url: str) -> None:
        raise AssertionError

    grant = Grant(account="default", registration=REGISTRATION, client_secret=None)
    with pytest.raises(StoreUnsafe) as caught:
        await login(grant, store=store, client_secret=Secret("s3kr1t-client"), browser=browser)
    assert str(caught.value) == refusal(far)
    with pytest.raises(StoreUnsafe) as caught:
        start("default", REGISTRATION, accounts_folder=str(far), store=store, secret_reference=None, timeout=60)
    assert str(caught.value) == refusal(far)
    assert names(far.parent.parent) == ["mountinfo"]


async def test_the_command_on_a_network(far: Path, mountinfo: Path, server: TokenServer) -> None:
    """`token` ends with 8, having sent nothing, whatever config.toml says but the line of the hint: that allows it."""
    as_root()
    home = far.parent
    Accounts(FileStore(str(far))).save(stored_at(server.url, 7200))
    for content in (
        "",
        "allow_network_store = false\n",
        "allow_network_store = 1\n",
        "allow_network_store = true\nnonsense\n",
    ):
        (home / "config.toml").write_text(content)
        ended = await command(home, mountinfo, "token")
        assert (ended.status, ended.stdout) == (8, "")
        assert ended.errors == [refusal(far)]
        assert ended.hints == list(HINTS)
    assert server.presented == {}
    (home / "config.toml").write_text("allow_network_store = true\n[clients.a]\nunknown = 1\n")
    ended = await command(home, mountinfo, "token")
    assert (ended.status, ended.stdout.startswith("s3kr1t-access-1"), ended.stderr) == (0, True, "")
    assert server.presented == {REFRESH: 1}


async def command(home: Path, mountinfo: Path, *arguments: str) -> Ended:
    """Run the command in a mount namespace of its own, where `mountinfo` is what the system says of its mounts."""
    shell = 'mount --bind "$0" /proc/$$/mountinfo || exit 99; exec "$@"'
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "sh", "-c", shell, str(mountinfo)),
        *(sys.executable, "-m", "loopback_auth", *arguments),
        env={
            "LOOPBACK_AUTH_HOME": str(home),
            "ACME_SECRET": "s3kr1t-client",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(Path(loopback_auth.__file__).parents[1]),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    if process.returncode == 99 or b"unshare" in stderr:
        pytest.skip(f"needs the right to mount over /proc: {stderr.decode().strip()}")
    return Ended(process.returncode or 0, stdout.decode(), stderr.decode(), arguments)

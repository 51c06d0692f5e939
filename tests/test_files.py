"""Private files, on a real disk: how they are born, replaced and looked at."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopback_auth import files
from loopback_auth.errors import StoreError, StoreNotWritable, StoreUnsafe
from tests.store import planted
from tests.store.planted import PLANTED, mode, names, run_hint


@pytest.fixture
def private(tmp_path: Path) -> Path:
    files.replace(str(tmp_path / "private"), b"s3kr1t-content")
    return tmp_path / "private"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_born_for_this_user_alone(tmp_path: Path, umask: int) -> None:
    """Folders are 0700 and files 0600, whatever the umask allows."""
    before = os.umask(umask)
    try:
        files.make_folder(str(tmp_path / "a" / "b"))
        files.replace(str(tmp_path / "a" / "b" / "c"), b"")
    finally:
        os.umask(before)
    assert [mode(path) for path in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c")] == [
        "0700",
        "0700",
        "0600",
    ]


def test_a_file_is_replaced_by_a_new_one(private: Path) -> None:
    """The old file is not written into: who has it open still reads the old content, and nothing is left beside it."""
    with private.open("rb") as old:
        inode = private.stat().st_ino
        files.replace(str(private), b"new")
        assert old.read() == b"s3kr1t-content"
    assert private.stat().st_ino != inode
    assert files.read(str(private)) == b"new"
    assert mode(private) == "0600"
    assert names(private.parent) == ["private"]


@given(st.binary(max_size=100_000))
@settings(max_examples=20)
def test_content_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Any bytes come back."""
    path = str(tmp_path_factory.mktemp("files") / "any")
    files.replace(path, content)
    assert files.read(path) == content


def test_the_place_of_the_new_file_cannot_be_prepared(private: Path) -> None:
    """A link planted where the new file is about to be born is not followed: it goes, and its target stays."""
    target = private.with_name("target")
    target.write_bytes(b"theirs")
    private.with_name(f"private.{os.getpid()}.new").symlink_to(target)
    files.replace(str(private), b"new")
    assert target.read_bytes() == b"theirs"
    assert files.read(str(private)) == b"new"
    assert not private.is_symlink()


def test_the_system_calls_of_a_replacement(private: Path) -> None:
    """Born exclusively, not through a link, 0600; synced before it takes its place, and the folder synced after."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace: to see the system calls")
    trace = private.with_name("trace")
    program = "import sys; from loopback_auth import files; files.replace(sys.argv[1], b's3kr1t-new')"
    command = [strace, "-y", "-e", "trace=openat,write,fsync,fdatasync,rename,unlink", "-o", str(trace), sys.executable]
    ran = subprocess.run([*command, "-c", program, str(private)], capture_output=True, text=True, check=False)
    if "ptrace" in ran.stderr:
        pytest.skip(f"needs the right to trace: {ran.stderr.strip()}")
    calls = [line for line in trace.read_text().splitlines() if str(private.parent) in line]
    folder, new = re.escape(str(private.parent)), rf"{re.escape(str(private))}\.\d+\.new"
    expected = [
        rf'unlink\("{new}"\) += -1 ENOENT .*',
        rf'openat\(AT_FDCWD.*, "{new}", O_RDWR\|O_CREAT\|O_EXCL\|O_NOFOLLOW\|O_CLOEXEC, 0600\) = .*',
        rf"write\(\d+<{new}>, .*\) += 10",
        rf"fsync\(\d+<{new}>\) += 0",
        rf'rename\("{new}", "{re.escape(str(private))}"\) += 0',
        rf'openat\(AT_FDCWD.*, "{folder}", O_RDONLY\|O_CLOEXEC\|O_DIRECTORY\) = .*',
        rf"fsync\(\d+<{folder}>\) += 0",
    ]
    assert len(calls) == len(expected), calls
    for call, pattern in zip(calls, expected, strict=True):
        assert re.fullmatch(pattern, call)


PLANTING = """
import contextlib, os, sys
print("begun", flush=True)
while True:
    with contextlib.suppress(OSError):
        os.symlink(sys.argv[1], sys.argv[2])
"""


def test_a_link_planted_at_the_very_moment_is_not_followed(private: Path) -> None:
    """Another process plants a link again and again where the new file is born: it is never written through."""
    target = private.with_name("target")
    target.write_bytes(b"theirs")
    new = private.with_name(f"private.{os.getpid()}.new")
    command = [sys.executable, "-c", PLANTING, str(target), str(new)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as planting:
        assert planting.stdout is not None
        assert planting.stdout.readline() == b"begun\n"
        until = time.monotonic() + 0.5
        try:
            while time.monotonic() < until:
                with contextlib.suppress(StoreNotWritable):
                    files.replace(str(private), b"s3kr1t-new")
                assert target.read_bytes() == b"theirs"
        finally:
            planting.kill()


def test_a_link_is_replaced_not_followed(private: Path) -> None:
    """A link in the place of the file itself is replaced, and what it points to stays."""
    target = private.with_name("target")
    target.write_bytes(b"theirs")
    private.unlink()
    private.symlink_to(target)
    files.replace(str(private), b"new")
    assert target.read_bytes() == b"theirs"
    assert files.read(str(private)) == b"new"


@pytest.mark.parametrize(("plant", "message", "hint"), PLANTED)
def test_what_is_not_ours_is_not_read(private: Path, plant: Callable[[Path], None], message: str, hint: str) -> None:
    """Links, FIFOs, folders, files of others and files that others can read are refused, with what to type."""
    plant(private)
    with pytest.raises(StoreUnsafe) as caught:
        files.read(str(private))
    assert str(caught.value) == message.format(private)
    assert caught.value.hint == (hint.format(private),)
    assert caught.value.exit_status == 8


def test_the_hint_mends_loose_permissions(private: Path) -> None:
    """What the hint says, typed as it stands, makes the file readable again."""
    private.chmod(0o664)
    with pytest.raises(StoreUnsafe) as caught:
        files.read(str(private))
    run_hint(caught.value.hint[0])
    assert files.read(str(private)) == b"s3kr1t-content"


def test_a_file_that_is_absent_is_that() -> None:
    """Only absence is FileNotFoundError: every other reason is told."""
    with pytest.raises(FileNotFoundError):
        files.read("/nonexistent/private")
    with pytest.raises(FileNotFoundError):
        files.check_folder("/nonexistent")


def test_a_file_is_read_up_to_its_limit(private: Path) -> None:
    """A file over the limit was not written by this program."""
    assert files.read(str(private), limit=14) == b"s3kr1t-content"
    with pytest.raises(StoreUnsafe, match=r"private is larger than 13 bytes: this program did not write it"):
        files.read(str(private), limit=13)


def test_a_file_is_read_whole(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few bytes the system gives at a time, all of them are returned."""
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, length: read(descriptor, min(length, 5)))
    assert files.read(str(private)) == b"s3kr1t-content"


def test_a_file_that_was_replaced_while_open_is_still_read(private: Path) -> None:
    """A reader that opened the old file just before it was replaced gets the old content, not an error."""
    with private.open("rb") as old:
        private.unlink()
        files.check(os.fstat(old.fileno()), str(private))


@pytest.mark.parametrize(
    ("plant", "message", "hint"),
    [
        ("link", "{} is not a folder: this program did not make it so", "look at it: ls -ld {}"),
        ("file", "{} is not a folder: this program did not make it so", "look at it: ls -ld {}"),
        ("loose", "{} can be entered by other users", "chmod 700 {}"),
        (
            "given away",
            f"{{}} belongs to user id {planted.STRANGER}, and this program runs as user id {os.getuid()}",
            "run it as that user, without sudo",
        ),
    ],
)
def test_a_folder_is_ours_alone(tmp_path: Path, plant: str, message: str, hint: str) -> None:
    """A folder that is a link, another user's, or open to others is refused, with what to type."""
    folder = tmp_path / "folder"
    match plant:
        case "link":
            (tmp_path / "elsewhere").mkdir(0o700)
            folder.symlink_to(tmp_path / "elsewhere")
        case "file":
            folder.touch()
        case "loose":
            folder.mkdir()
            folder.chmod(0o750)
        case "given away":
            planted.as_root()
            folder.mkdir(0o700)
            os.chown(folder, planted.STRANGER, -1)
    for refuses in (files.check_folder, files.make_folder):
        with pytest.raises(StoreUnsafe) as caught:
            refuses(str(folder))
        assert str(caught.value) == message.format(folder)
        assert caught.value.hint == (hint.format(folder),)
    if plant == "loose":
        run_hint(caught.value.hint[0])
        files.check_folder(str(folder))


def test_a_folder_that_cannot_be_made(private: Path) -> None:
    """Below a file no folder can be made, and no file be written, removed or read."""
    with pytest.raises(StoreNotWritable, match=r"the folder .*/private/x/y cannot be made: not a directory"):
        files.make_folder(str(private / "x" / "y"))
    with pytest.raises(StoreNotWritable, match=r"/private/x cannot be written: not a directory"):
        files.replace(str(private / "x"), b"")
    with pytest.raises(StoreNotWritable, match=r"/private/x cannot be removed: not a directory"):
        files.remove(str(private / "x"))
    with pytest.raises(StoreUnsafe, match=r"/private/x cannot be opened: not a directory"):
        files.read(str(private / "x"))
    with pytest.raises(StoreUnsafe, match=r"/private/x cannot be looked at: not a directory"):
        files.check_folder(str(private / "x"))


def test_a_folder_in_the_place_of_a_file_stays(tmp_path: Path) -> None:
    """A file that cannot take its place leaves nothing beside it."""
    (tmp_path / "private").mkdir()
    with pytest.raises(StoreNotWritable, match=r"/private cannot be written: is a directory"):
        files.replace(str(tmp_path / "private"), b"s3kr1t-new")
    assert names(tmp_path) == ["private"]


def test_remove_says_whether_there_was_one(private: Path) -> None:
    """Removing is done once."""
    assert files.remove(str(private))
    assert not files.remove(str(private))
    assert names(private.parent) == []


def test_a_path_is_shown_without_control_characters(tmp_path: Path) -> None:
    """A folder's odd name cannot write on the terminal."""
    files.make_folder(str(tmp_path / "\x1b[2J\n"))
    with pytest.raises(StoreError) as caught:
        files.replace(str(tmp_path / "\x1b[2J\n" / "x" / "y"), b"")
    assert str(caught.value).endswith(r"/\x1b[2J\x0a/x/y cannot be written: no such file or directory")


KILLED_WHILE_SAVING = """
import sys
from loopback_auth import files
number = 0
while True:
    number += 1
    content = (b"%d " % number) * 2000
    files.replace(sys.argv[1], content)
    if number == 1:
        print("begun", flush=True)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """kill -9 at any moment: the file is the old one or the new one, from its first byte to its last."""
    path = tmp_path / "private"
    for round_ in range(12):
        writer = subprocess.Popen([sys.executable, "-c", KILLED_WHILE_SAVING, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        with writer.stdout:
            assert writer.stdout.readline() == b"begun\n"
            time.sleep(0.003 * round_)
            writer.send_signal(signal.SIGKILL)
            assert writer.wait() == -signal.SIGKILL
        words = files.read(str(path)).split()
        assert len(words) == 2000
        assert len(set(words)) == 1


def test_a_removal_is_durable(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is synced after a file was removed from it."""
    synced: list[str] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    private.touch(0o600)
    assert files.remove(str(private))
    assert synced == [str(private.parent)]


def test_a_new_folder_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder that is made is synced into the one above it: an account must not go with its folder."""
    synced: list[str] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    files.make_folder(str(tmp_path / "home" / "accounts"))
    assert synced == [str(tmp_path), str(tmp_path / "home")]
    files.make_folder(str(tmp_path / "home" / "accounts"))
    assert len(synced) == 2

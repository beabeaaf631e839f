"""What was paid for stays: through kills, beside other writers, and never silently lost."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from curate.errors import DataWarning, ExternalError, InputError
from curate.generators.request_store import RequestStore, check_regular, make_private
from curate.generators.requests import Completion, Request, Sampling
from curate.storage.cache import Cache

MODEL = "a-model chat"


def ask(number: int, prompt: str = "What is {}?") -> Request:
    return Request(prompt.format(number), Sampling(stop=("\n",)), seed=2**63 - 1, index=number)


def put(store: RequestStore, request: Request, text: str = "42", reason: str = "stop") -> str:
    key = request.key(MODEL)
    store.put(key, request, MODEL, Completion(text, reason, 3, 4))  # type: ignore[arg-type]
    return key


@pytest.fixture
def store(tmp_path: Path) -> RequestStore:
    return RequestStore(tmp_path / "deep" / "requests.sqlite")


# -- the store ---------------------------------------------------------------------------------------------------------

ODD = ["", "two\nlines", "nul \0 inside", "\u2028 \U0001f40d", "x" * 3_000_000]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_what_was_put_comes_back_exactly_in_another_process_too(store: RequestStore, text: str) -> None:
    request = Request(({"role": "user", "content": text},), Sampling(), 0)
    key = put(store, request, text, "length")
    assert store.get(key) == Completion(text, "length", 3, 4)
    assert RequestStore(store.path).get(key) == Completion(text, "length", 3, 4)


def test_half_a_pair_that_was_kept_once_comes_back_as_text_that_can_be_written(store: RequestStore) -> None:
    key = put(store, ask(0), "Sorry \ud800, \udc00\ud83d")
    assert store.get(key) == Completion("Sorry \ufffd, \ufffd\ufffd", "stop", 3, 4)


def test_unknown_keys_are_none_and_many_are_asked_at_once(store: RequestStore) -> None:
    keys = [put(store, ask(k), str(k)) for k in range(1200)]
    unknown = ask(5000).key(MODEL)
    assert store.get(unknown) is None
    found = store.get_many([*keys, unknown])
    assert {key: found[key].text for key in keys} == {key: str(k) for k, key in enumerate(keys)}
    assert len(found) == store.count() == 1200


def test_the_first_completion_of_a_key_stays(store: RequestStore) -> None:
    key = put(store, ask(0), "first")
    put(store, ask(0), "second")
    found = store.get(key)
    assert found is not None
    assert found.text == "first"


def test_refused_requests_are_asked_again(store: RequestStore) -> None:
    request = ask(0)
    store.put(request.key(MODEL), request, MODEL, Completion("", "refused", refusal="too long"))
    assert store.get(request.key(MODEL)) is None


def test_a_prompt_is_there_once_however_often_it_is_asked(store: RequestStore) -> None:
    for k in range(50):
        put(store, Request("the same " * 1000, Sampling(), 0, k))
    rows = sqlite3.connect(store.path)
    assert rows.execute("SELECT count(*) FROM prompts").fetchone() == (1,)
    assert rows.execute("SELECT count(*) FROM completions").fetchone() == (50,)
    rows.close()


def test_the_store_of_a_cache_is_one_file_in_it(tmp_path: Path) -> None:
    store = RequestStore.under(Cache(tmp_path))
    put(store, ask(0))
    store.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "requests" / "requests.sqlite"]


def test_nothing_is_opened_before_it_is_needed(store: RequestStore) -> None:
    assert not store.path.parent.exists()


# -- who may read it ---------------------------------------------------------------------------------------------------


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_only_its_owner_may_read_a_store_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = RequestStore.under(Cache(tmp_path / "cache"))
        put(store, ask(0))
        name = "requests.sqlite"
        private = {"requests": 0o700, name: 0o600, f"{name}-wal": 0o600, f"{name}-shm": 0o600}
        assert modes(store.path.parent) == private
        alone = RequestStore(tmp_path / "shared" / "made" / "here.sqlite")
        put(alone, ask(0))
        assert set(modes(alone.path.parent).values()) == {0o600, 0o700}
        assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o777 & ~umask
    finally:
        os.umask(before)


def test_a_store_that_others_could_read_is_made_private_and_the_folder_of_others_is_let_be(tmp_path: Path) -> None:
    store = RequestStore.under(Cache(tmp_path / "cache"))
    key = put(store, ask(0))
    copies = tmp_path / "copies"  # as a killed run leaves them, with a log
    shutil.copytree(store.path.parent, copies)
    for path in (copies, store.path.parent):
        for each in (path, *path.iterdir()):
            each.chmod(0o777 if each.is_dir() else 0o664)
    assert RequestStore.under(Cache(tmp_path / "cache")).get(key) is not None
    assert {*modes(store.path.parent).values()} == {0o700, 0o600}
    assert RequestStore(copies / "requests.sqlite").get(key) is not None
    found = modes(copies)
    assert found.pop("copies") == 0o777
    assert set(found.values()) == {0o600}


def test_what_cannot_be_made_private_is_told(store: RequestStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    put(store, ask(0))
    store.close()
    store.path.chmod(0o640)
    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.warns(DataWarning, match=r"others can read .*requests.sqlite, and that cannot be changed \(Op"):
        assert store.count() == 1


# -- caps --------------------------------------------------------------------------------------------------------------


def test_a_cap_is_kept_and_checked(store: RequestStore) -> None:
    key = ask(0).key(MODEL)
    capped = Completion("42", "length", 3, 4, cap=4)
    store.put(key, ask(0), MODEL, capped)
    assert store.get(key) == capped
    store.close()
    with sqlite3.connect(store.path) as rows:
        rows.execute("UPDATE completions SET cap = 5")
    rows.close()
    with pytest.raises(ExternalError, match="is damaged"):
        store.get(key)


def test_what_a_server_refused_is_kept_and_checked(store: RequestStore) -> None:
    keys = [ask(k).key(MODEL) for k in range(2)]
    drawn = Completion("42", "stop", 3, 4, refused_parameters=("temperature", "top_p"))
    store.put(keys[0], ask(0), MODEL, drawn)
    store.put(keys[1], ask(1), MODEL, Completion("42", "stop", 3, 4))
    assert list(store.get_many(keys).values()) == [drawn, Completion("42", "stop", 3, 4)]
    store.close()
    with sqlite3.connect(store.path) as rows:
        rows.execute("UPDATE completions SET refused_parameters = NULL")
    rows.close()
    with pytest.raises(ExternalError, match="is damaged"):
        store.get(keys[0])


EARLIER = """
CREATE TABLE prompts (digest BLOB PRIMARY KEY, prompt TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE completions (key BLOB PRIMARY KEY, model TEXT NOT NULL, prompt BLOB NOT NULL, sampling TEXT NOT NULL,
seed INTEGER NOT NULL, number INTEGER NOT NULL, text BLOB NOT NULL, finish_reason TEXT NOT NULL,
prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, made REAL NOT NULL, checksum BLOB NOT NULL)
WITHOUT ROWID;
PRAGMA application_id = 1131770465;
PRAGMA user_version = 1;
"""


@pytest.mark.parametrize("version", [1, 2])
def test_what_an_earlier_release_paid_for_is_found(store: RequestStore, version: int) -> None:
    store.path.parent.mkdir()
    key = bytes.fromhex(ask(0).key(MODEL))
    checksum = hashlib.blake2b(b"\0".join([key, b'["stop", 3, 4]', b"42"]), digest_size=8).digest()
    with sqlite3.connect(store.path) as rows:
        rows.executescript(EARLIER)
        rows.execute(
            "INSERT INTO completions VALUES (?, '', x'00', '{}', 0, 0, ?, 'stop', 3, 4, 0.0, ?)", (key, b"42", checksum)
        )
        if version == 2:
            rows.execute("ALTER TABLE completions ADD COLUMN cap INTEGER")
            rows.execute("PRAGMA user_version = 2")
    rows.close()
    several = [RequestStore(store.path) for _ in range(3)]
    assert [each.get(key.hex()) for each in several] == [Completion("42", "stop", 3, 4)] * 3
    put(several[0], ask(1))
    assert several[2].count() == 2


WRITER = """
import sys
from curate.generators.requests import Completion, Request, Sampling
from curate.generators.request_store import RequestStore
store = RequestStore(sys.argv[1])
for k in range(int(sys.argv[2]), int(sys.argv[3])):
    request = Request(f"What is {k}?", Sampling(), 0, k)
    store.put(request.key("m"), request, "m", Completion(f"it is {k} " * 50, "stop"))
    print(k, flush=True)
"""


def test_whatever_was_put_survives_kill_9(store: RequestStore) -> None:
    for round_ in range(3):
        low = round_ * 100_000
        command = [sys.executable, "-c", WRITER, str(store.path), str(low), str(low + 100_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            told = [int(process.stdout.readline()) for _ in range(50)]
            process.kill()
            told += [int(line) for line in process.stdout if line.endswith("\n")]
        keys = [Request(f"What is {k}?", Sampling(), 0, k).key("m") for k in told]
        found = store.get_many(keys)
        assert [found[key].text for key in keys] == [f"it is {k} " * 50 for k in told]


def test_several_processes_write_at_once_from_the_first_moment_on(store: RequestStore) -> None:
    commands = [[sys.executable, "-c", WRITER, str(store.path), str(low), str(low + 100)] for low in (0, 0, 50, 50)]
    writers = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    keys = [Request(f"What is {k}?", Sampling(), 0, k).key("m") for k in range(150)]
    found = store.get_many(keys)
    assert [found[key].text for key in keys] == [f"it is {k} " * 50 for k in range(150)]
    assert store.count() == 150


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_opens_its_own(store: RequestStore) -> None:
    put(store, ask(0))
    child = os.fork()
    if child == 0:
        put(store, ask(1))
        os._exit(0 if store.get(ask(0).key(MODEL)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.count() == 2


# -- what can go wrong with it -----------------------------------------------------------------------------------------


def _overwrite(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) >= 1
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize("damage", ["garbage", "cut", "flipped text", "wrong count"])
def test_a_damaged_store_is_named_and_left_alone(store: RequestStore, damage: str) -> None:
    keys = [put(store, ask(k), f"answer {k} " * 100) for k in range(200)]
    store.close()
    path = store.path
    if damage == "garbage":
        path.write_bytes(b"not a database at all" * 1000)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    elif damage == "flipped text":
        _overwrite(path, b"answer 77 ", b"answer 78 ")
    else:
        with sqlite3.connect(path) as rows:
            rows.execute("UPDATE completions SET completion_tokens = 1000")
        rows.close()
    before = path.read_bytes()
    with pytest.raises(ExternalError, match=r"requests.sqlite is damaged .*paid for.*\.recover") as caught:
        store.get_many(keys)
    assert "\n" not in str(caught.value)
    store.close()
    assert path.read_bytes() == before


def test_an_empty_file_and_a_log_without_its_file_are_damage_and_left_alone(tmp_path: Path) -> None:
    empty = RequestStore(tmp_path / "empty.sqlite")
    empty.path.touch()
    with pytest.raises(ExternalError, match=r"empty\.sqlite is damaged \(it is empty\)"):
        put(empty, ask(0))
    assert empty.path.stat().st_size == 0
    gone = RequestStore(tmp_path / "gone.sqlite")
    log = tmp_path / "gone.sqlite-wal"
    log.write_bytes(b"frames that were paid for")
    with pytest.raises(ExternalError, match=r"gone\.sqlite is damaged \(its write-ahead log gone\.sqlite-wal is there"):
        gone.count()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["empty.sqlite", "gone.sqlite-wal"]
    assert log.read_bytes() == b"frames that were paid for"


def test_a_store_is_made_where_a_file_has_one_name_only(store: RequestStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    key = put(store, ask(0))
    store.close()
    again = RequestStore(store.path)
    assert again.get(key) is not None
    again.close()
    assert [path.name for path in store.path.parent.iterdir()] == [store.path.name]


NO_FILE = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a loop": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a device": lambda path: path.symlink_to("/dev/null"),
}


@pytest.mark.parametrize("kind", NO_FILE)
@pytest.mark.parametrize("name", ["requests.sqlite", "requests.sqlite-wal", "requests.sqlite-shm", "."])
def test_what_is_no_file_is_named_at_once_and_left_alone(name: str, kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "requests"
    if name == "." and kind == "a folder":
        return
    if name != ".":
        folder.mkdir()
    place = tmp_path / "requests" / name
    NO_FILE[kind](place)
    before = os.lstat(place), os.stat("/dev/null").st_mode
    with pytest.raises(InputError, match=r"requests.* (is not a file; |is a file where a folder is needed; )remove it"):
        RequestStore.under(Cache(tmp_path)).count()
    assert (os.lstat(place).st_mode, os.stat("/dev/null").st_mode) == (before[0].st_mode, before[1])
    assert not (folder / "nowhere").exists()


def test_a_database_of_something_else_is_not_written_to(store: RequestStore) -> None:
    store.path.parent.mkdir()
    with sqlite3.connect(store.path) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    with pytest.raises(InputError, match="a database of something else"):
        put(store, ask(0))


def test_a_store_of_a_newer_release_is_not_touched(store: RequestStore) -> None:
    put(store, ask(0))
    store.close()
    with sqlite3.connect(store.path) as rows:
        rows.execute("PRAGMA user_version = 99")
    rows.close()
    with pytest.raises(InputError, match="newer release"):
        store.get(ask(0).key(MODEL))


def _fill(store: RequestStore) -> None:
    for k in range(1, 100):
        put(store, ask(k), os.urandom(5000).hex())


def test_a_full_disk_is_an_external_error_and_what_was_put_stays(store: RequestStore) -> None:
    kept = put(store, ask(0))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        with pytest.raises(ExternalError, match="make room"):
            _fill(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    again = RequestStore(store.path)
    assert again.get(kept) == Completion("42", "stop", 3, 4)
    put(again, ask(1000))


# -- complete ----------------------------------------------------------------------------------------------------------


def test_others_lose_their_rights_and_the_owner_keeps_them(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("x")
    folder.mkdir()
    file.chmod(0o644)
    folder.chmod(0o755)
    make_private([file, folder, tmp_path / "missing"])
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, folder)] == [0o600, 0o700]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nothing", "loop"])
def test_what_is_no_file_is_refused_without_waiting(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("place" if kind == "loop" else "nowhere")
    with pytest.raises(InputError, match="place is not a file; remove it"):
        check_regular([place], "remove it")


def test_files_links_to_files_and_nothing_at_all_are_fine(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    check_regular([tmp_path / "file", tmp_path / "link", tmp_path / "missing", tmp_path / "file" / "below"], "")

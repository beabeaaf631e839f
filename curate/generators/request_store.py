"""Persistent store of completions by request, so that a completion that was paid for is never requested again."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
import stat
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType

from curate.errors import DataWarning, ExternalError, InputError
from curate.generators.payloads import encodable
from curate.generators.requests import Completion, Request, plain_prompt, prompt_digest
from curate.storage.atomic import disk_errors, make_folder, publish_file
from curate.storage.cache import Cache

_APPLICATION = 0x43757261  # marks the file as a request store
_VERSION = 3  # since 2 with caps, since 3 with refused parameters
_TABLES = (
    "CREATE TABLE IF NOT EXISTS prompts (digest BLOB PRIMARY KEY, prompt TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS completions (key BLOB PRIMARY KEY, model TEXT NOT NULL, prompt BLOB NOT NULL, "
    "sampling TEXT NOT NULL, seed INTEGER NOT NULL, number INTEGER NOT NULL, text BLOB NOT NULL, "
    "finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, "
    "made REAL NOT NULL, checksum BLOB NOT NULL, cap INTEGER, refused_parameters TEXT) WITHOUT ROWID",
)
_PUT = "INSERT OR IGNORE INTO completions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_GET = (
    "SELECT key, text, finish_reason, prompt_tokens, completion_tokens, cap, refused_parameters, checksum "
    "FROM completions WHERE key IN "
)
_MARKS = ("application_id", "user_version")
_PATIENCE = 60.0  # seconds to wait while another process holds the file
_KEYS_AT_ONCE = 500
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SHUT = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH)


class RequestStore:
    """Completions by `Request.key` in the file `path`, which is created if it is missing.

    One SQLite file. A completion is on disk when `put` returns, whatever happens to the process afterwards; several
    processes may read and write concurrently. Nothing is ever deleted, damaged or not: only its owner knows what it
    cost.

    Only its owner can read it, whatever the umask: an existing file is made private when it is opened, and its folder
    too if that holds nothing else (own_folder). Safe from several threads, and in a forked child. Every method raises
    ExternalError if the file is damaged, cannot be written, or is locked by another process for a minute; InputError
    if something else is in its place.
    """

    def __init__(self, path: Path | str, *, own_folder: bool = False) -> None:
        self.path, self._own_folder = Path(path), own_folder
        self._lock = threading.RLock()
        self._open: tuple[int, sqlite3.Connection] | None = None

    @classmethod
    def under(cls, cache: Cache) -> RequestStore:
        """The store of a cache."""
        return cls(cache.root / "requests" / "requests.sqlite", own_folder=True)

    def get(self, key: str) -> Completion | None:
        """The completion of a request, None if it is not stored."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Completion]:
        """Stored completions by key; missing keys are left out."""
        completions = {}
        for low in range(0, len(keys), _KEYS_AT_ONCE):
            some = [bytes.fromhex(key) for key in keys[low : low + _KEYS_AT_ONCE]]
            with self._connection() as connection:
                rows = connection.execute(f"{_GET} ({','.join('?' * len(some))})", some).fetchall()
            for key, text, reason, prompt_tokens, completion_tokens, cap, refused_parameters, checksum in rows:
                if _checksum(key, text, reason, prompt_tokens, completion_tokens, cap, refused_parameters) != checksum:
                    raise self._damaged(f"checksum of request {key.hex()}")
                decoded = encodable(text.decode("utf-8", "surrogatepass"))  # older entries may hold lone surrogates
                names = tuple(refused_parameters.split(",")) if refused_parameters else ()
                counts = (prompt_tokens, completion_tokens)
                completions[key.hex()] = Completion(decoded, reason, *counts, cap=cap, refused_parameters=names)
        return completions

    def put(self, key: str, request: Request, model: str, completion: Completion) -> None:
        """Store a completion. The first one of a key stays; a refused one is not stored, so it is requested again."""
        if completion.finish_reason == "refused":
            return
        text, number = completion.text.encode("utf-8", "surrogatepass"), bytes.fromhex(key)
        counts = (completion.prompt_tokens, completion.completion_tokens)
        prompt = bytes.fromhex(prompt_digest(request.prompt, request.tools))
        plain = plain_prompt(request.prompt, request.tools)
        sampling = json.dumps(request.sampling.model_dump(), sort_keys=True)
        refused_parameters = ",".join(completion.refused_parameters) or None
        checksum = _checksum(number, text, completion.finish_reason, *counts, completion.cap, refused_parameters)
        row = (number, model, prompt, sampling, request.seed, request.index, text, completion.finish_reason, *counts)
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute("INSERT OR IGNORE INTO prompts VALUES (?, ?)", (prompt, json.dumps(plain)))
                connection.execute(_PUT, (*row, time.time(), checksum, completion.cap, refused_parameters))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def count(self) -> int:
        """Number of completions in the store."""
        with self._connection() as connection:
            return int(connection.execute("SELECT count(*) FROM completions").fetchone()[0])

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            if self._open is not None and self._open[0] == os.getpid():
                self._open[1].close()
            self._open = None

    def __enter__(self) -> RequestStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            if self._open is None or self._open[0] != os.getpid():  # a connection must not be used across a fork
                self._open = (os.getpid(), self._connect())
            yield self._open[1]

    def _connect(self) -> sqlite3.Connection:
        # Files that SQLite creates beside it get the permissions of the database file.
        parts = tuple(Path(f"{self.path}{end}") for end in ("", "-wal", "-shm"))
        with disk_errors(self.path):
            check_regular(parts, "remove it, or choose another cache with --cache")
            self._create()
        make_private((self.path.parent, *parts) if self._own_folder and not self.path.parent.is_symlink() else parts)
        connection = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self) -> None:
        """Create the file if it is missing: atomically, so that an empty file is one that lost its content."""
        log = Path(f"{self.path}-wal")
        orphaned = log.exists()  # checked first: another process creates the log after the file
        if self.path.exists():
            if not self.path.stat().st_size:
                raise self._damaged("it is empty")
            return
        if orphaned:
            raise self._damaged(f"its write-ahead log {log.name} is there without it")
        make_folder(self.path.parent, 0o700)
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as empty:
            _make_tables(empty)
            publish_file(self.path, empty.serialize(), replace=False)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        kind, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _MARKS)
        if kind != _APPLICATION and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise InputError(f"{self.path} is a database of something else; name another place for the requests")
        if version > _VERSION:
            raise InputError(f"request store {self.path} was made by a newer release; install that")
        # Switching to a write-ahead log needs exclusive access, and does not wait for it by itself.
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.02)
        # A commit then survives the death of the process; a crash of the machine may lose the last ones, but whole.
        connection.execute("PRAGMA synchronous = NORMAL")
        if version < _VERSION:
            _make_tables(connection)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = _code(error)
            if code in _DAMAGE or (code == sqlite3.SQLITE_ERROR and "no such" in str(error)):
                raise self._damaged(str(error)) from error
            if code == sqlite3.SQLITE_BUSY:
                remedy = "another process holds it; end that, then rerun the same command"
            elif code in _SHUT:
                remedy = "make the file and its folder writable, or choose another cache with --cache"
            else:
                remedy = "make room and rerun the same command"
            raise ExternalError(f"request store {self.path} cannot be used ({error}); {remedy}") from error

    def _damaged(self, fault: str) -> ExternalError:
        return ExternalError(
            f"request store {self.path} is damaged ({fault}) and was left as it is, because it was paid for: save what "
            f"is readable with `sqlite3 FILE .recover`, or move it away to ask everything again"
        )


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for an error of the Python module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _make_tables(connection: sqlite3.Connection) -> None:
    """Create missing tables, and columns that an earlier release did not have."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in (*_TABLES, f"PRAGMA application_id = {_APPLICATION}", f"PRAGMA user_version = {_VERSION}"):
        connection.execute(statement)
    # read again under the lock: another process may have been faster
    present = {column[1] for column in connection.execute("PRAGMA table_info(completions)")}
    for name, kind in (("cap", "INTEGER"), ("refused_parameters", "TEXT")):
        if name not in present:
            connection.execute(f"ALTER TABLE completions ADD COLUMN {name} {kind}")
    connection.execute("COMMIT")


def _checksum(
    key: bytes, text: bytes, reason: str, prompt_tokens: int, tokens: int, cap: int | None, refused: str | None
) -> bytes:
    # Completions without a cap and refused parameters keep the checksum of earlier releases.
    rest = (reason, prompt_tokens, tokens, *(part for part in (cap, refused) if part is not None))
    return hashlib.blake2b(b"\0".join([key, json.dumps(rest).encode(), text]), digest_size=8).digest()


def check_regular(paths: Iterable[Path], remedy: str) -> None:
    """Raise an InputError that ends in `remedy` for each path that exists and is not a regular file.

    Opening a pipe would block, a device would get another mode, and writing to a dangling link would create its target.
    """
    for path in paths:
        try:
            regular = stat.S_ISREG(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            regular = not path.is_symlink()
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            regular = not path.is_symlink()
        if not regular:
            raise InputError(f"{path} is not a file; {remedy}")


def make_private(paths: Iterable[Path]) -> None:
    """Remove the permissions of group and others from existing files and folders; warns if that is not possible."""
    for path in paths:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                path.chmod(mode & 0o700)
        except FileNotFoundError:
            continue
        except OSError as error:
            warnings.warn(
                f"others can read {path}, and that cannot be changed ({error.strerror}); choose your own cache "
                "with --cache",
                DataWarning,
                stacklevel=2,
            )

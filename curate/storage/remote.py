"""Remote files and folders, opened by URL with fsspec: s3://, gs://, hf://, https:// and other installed schemes."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from curate.errors import CurateError, ExternalError, InputError
from curate.storage.places import without_secrets

_WEB = ("http", "https")
_BUCKETS = ("s3", "s3a", "gs", "gcs")
# What a scheme needs besides fsspec, and how to log in.
_PACKAGES = {
    "s3": "pip install 'curate-lm[s3]'",
    "s3a": "pip install 'curate-lm[s3]'",
    "gs": "pip install gcsfs",
    "gcs": "pip install gcsfs",
    "az": "pip install adlfs",
    "abfs": "pip install adlfs",
}
_LOGINS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "s3a": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "gcs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "hf": "set HF_TOKEN, or run `hf auth login`",
}
_LOG_IN = "check how you log in"
# Keys of a listing, by precedence: the first one present tells whether an object's content changed.
_STAMPS = ("ETag", "etag", "md5Hash", "generation", "blob_id", "oid", "Last-Modified", "LastModified", "mtime")


@dataclass(frozen=True)
class Item:
    """An object of a listing.

    name: path relative to the listed place, "" for the place itself. size: in bytes. stamp: changes with the content.
    """

    name: str
    size: int | None
    stamp: str | None


@dataclass(frozen=True)
class Remote:
    """A file or folder behind a URL; made by `remote`.

    Every method raises InputError if there is no such place, and ExternalError if it cannot be reached, read or
    written; messages name the URL without credentials, as `str` does.
    """

    url: str = field(repr=False)
    _filesystem: Any = field(repr=False, compare=False)
    _path: str = field(repr=False)

    def __str__(self) -> str:
        return without_secrets(self.url)

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0].lower()

    @property
    def is_web(self) -> bool:
        """Whether it is a web address, which is read and never listed."""
        return self.scheme in _WEB

    @property
    def is_pattern(self) -> bool:
        """Whether it is a glob pattern; a web address never is."""
        return self.scheme not in _WEB and glob.has_magic(self._path)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return (
            urlsplit(self._path).path.rstrip("/").rpartition("/")[2]
            if self.scheme in _WEB
            else (self._path.rstrip("/").rpartition("/")[2])
        )

    def join(self, *names: str) -> Remote:
        """The place at a relative path below this one."""
        below = "/".join(name for name in names if name)
        if not below:
            return self
        return Remote(f"{self.url.rstrip('/')}/{below}", self._filesystem, f"{self._path.rstrip('/')}/{below}")

    def items(self) -> list[Item]:
        """The object itself, or all objects below a folder, sorted by name; empty if nothing is there."""
        with self.errors():
            self._filesystem.invalidate_cache()
            if self.scheme in _WEB:
                return [_item("", self._filesystem.info(self._path))]
            try:
                entries = self._filesystem.find(self._path, detail=True)
            except FileNotFoundError:
                self._check_container()
                return []
            if not entries:
                self._check_container()
        own = self._path.rstrip("/")
        listed = {path.removeprefix(own).lstrip("/"): info for path, info in entries.items()}
        return [_item(name, listed[name]) for name in sorted(listed) if listed[name].get("type") != "directory"]

    def matching(self) -> list[Remote]:
        """The objects that match a pattern, sorted."""
        with self.errors():
            self._filesystem.invalidate_cache()
            entries = self._filesystem.glob(self._path, detail=True)
        start = self.url.partition("://")[0]
        paths = sorted(path for path, info in entries.items() if info.get("type") != "directory")
        return [Remote(f"{start}://{path.lstrip('/')}", self._filesystem, path) for path in paths]

    def read(self, most: int | None = None) -> bytes | None:
        """The content of an object, at most its first `most` + 1 bytes; None if it does not exist."""
        with self.errors():
            self._filesystem.invalidate_cache()
            try:
                return bytes(self._filesystem.cat_file(self._path, end=None if most is None else most + 1))
            except FileNotFoundError:
                return None

    def fetch(self, path: Path) -> bool:
        """Download an object to a file; False if it does not exist. Raises ExternalError for a partial download."""
        with self.errors():
            try:
                self._filesystem.invalidate_cache()
                size = self._filesystem.info(self._path).get("size")
                self._filesystem.get_file(self._path, str(path))
            except FileNotFoundError:
                if self.scheme in _WEB:
                    raise
                return False
        if size is not None and path.stat().st_size != size:
            raise ExternalError(f"{self}: {path.stat().st_size:,} of {size:,} bytes arrived; rerun the same command")
        return True

    def write(self, content: bytes | Path) -> None:
        """Upload bytes or a file as one object, which appears complete or not at all."""
        with self.errors(writing=True):
            if isinstance(content, Path):
                self._filesystem.put_file(str(content), self._path)
            else:
                self._filesystem.pipe_file(self._path, content)

    def copy(self, to: Remote) -> None:
        """Copy an object within the same storage, without downloading it."""
        with self.errors(writing=True):
            self._filesystem.cp_file(self._path, to._path)

    def remove(self) -> None:
        """Remove an object if it exists."""
        with self.errors(writing=True):
            try:
                self._filesystem.rm_file(self._path)
            except FileNotFoundError:
                return

    def check_writable(self) -> None:
        """Raise early if no object can be written, by trying: permissions cannot be queried."""
        if self.scheme in _WEB:
            raise InputError(f"{self}: web addresses are only read; name a place of s3://, gs:// or hf://, or a folder")
        if self.scheme != "hf":
            probe = self.join(".curate-probe")._path
            with self.errors(writing=True):
                self._filesystem.pipe_file(probe, b"")
                self._filesystem.rm_file(probe)

    def _check_container(self) -> None:
        """Raise FileNotFoundError for a missing bucket, which some storages list as empty."""
        bucket = self._path.lstrip("/").partition("/")[0]
        if self.scheme in _BUCKETS:
            self._filesystem.ls(bucket, refresh=True)

    @contextmanager
    def errors(self, *, writing: bool = False) -> Iterator[None]:
        """Turn errors of the storage into InputError or ExternalError."""
        try:
            yield
        except CurateError:
            raise
        except FileNotFoundError as error:
            cause = error.__cause__ or error.__context__
            if self.scheme in _WEB and cause is not None and getattr(cause, "status", None) != 404:
                raise self._failed(cause, writing) from None  # fsspec says of any failure that there is no file
            raise InputError(f"{self} does not exist; check the spelling") from None
        except Exception as error:
            raise self._failed(error, writing) from None  # a library's own message may quote the whole URL

    def _failed(self, error: BaseException, writing: bool) -> CurateError:
        """The error to raise for a failure of the storage."""
        kind, line = type(error).__name__, _line(error)
        login = _LOGINS.get(self.scheme, _LOG_IN)
        if "Credential" in kind or "credentials" in line.lower() or kind == "TokenRetrievalError":
            return ExternalError(f"no credentials for {self}; {login}, and rerun the same command")
        denied = isinstance(error, PermissionError) or getattr(error, "status", None) in (401, 403)
        if denied or "401" in line or "403" in line:
            verb = "written" if writing else "read"
            return ExternalError(f"{self} may not be {verb} with these credentials ({line}); {login}")
        if isinstance(error, ImportError):
            return _missing(self.scheme, error)
        if isinstance(error, NotImplementedError):
            return InputError(f"{self}: {self.scheme}:// cannot be {'written' if writing else 'listed'}; name another")
        if isinstance(error, MemoryError):
            raise error
        return ExternalError(f"{self} cannot be reached ({kind}: {line}); rerun the same command when it can")


def remote(url: str) -> Remote:
    """The file or folder at a URL; does not access it.

    Raises InputError, with the remedy, for an unsupported scheme, and for a user name or password in the URL.
    """
    import fsspec

    scheme = url.partition("://")[0].lower()
    url = scheme + url[len(scheme) :]
    user = urlsplit(url).netloc.rpartition("@")[0]
    if user and (scheme in _WEB or scheme in _BUCKETS or ":" in user):
        other = "put them in ~/.netrc, or download the file" if scheme in _WEB else _LOGINS.get(scheme, _LOG_IN)
        raise InputError(
            f"{without_secrets(url)}: the address holds a name or password, which records would keep; {other}"
        )
    if not urlsplit(url).netloc and not urlsplit(url).path.strip("/"):
        raise InputError(f"{url} names no place; write it like s3://BUCKET/FOLDER, hf://datasets/ORG/NAME/FILE")
    if scheme not in _WEB:
        url = url.rstrip("/")
    try:
        options = {"client_kwargs": {"trust_env": True}} if scheme in _WEB else {}
        filesystem, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise _missing(scheme, error) from None
    except ValueError as error:
        if "rotocol" in str(error):
            raise InputError(
                f"{without_secrets(url)}: nothing opens {scheme}://; name a place of s3://, gs://, hf:// or https://"
            ) from None
        raise InputError(f"{without_secrets(url)} is not a valid address ({_line(error)})") from None
    except Exception as error:  # from file systems that log in when they are constructed
        raise Remote(url, None, "")._failed(error, writing=False) from None
    return Remote(url, filesystem, str(path))


def _missing(scheme: str, error: ImportError) -> InputError:
    command = _PACKAGES.get(scheme, f"install what fsspec needs for it ({_line(error)})")
    return InputError(f"{scheme}:// needs a package that is not installed; {command}")


def _item(name: str, info: dict[str, Any]) -> Item:
    stamp = next((str(info[key]) for key in _STAMPS if info.get(key) is not None), None)
    return Item(name, info.get("size"), stamp)


def _line(error: BaseException) -> str:
    text = without_secrets(" ".join(str(error).split()) or type(error).__name__)
    return text if len(text) <= 160 else f"{text[:160]}…"

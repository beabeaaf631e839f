"""Remove paths of this machine from a finished dataset before others see it."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from curate.storage.atomic import publish_file
from curate.storage.folders import DATASET_PARTS, RECORD
from curate.storage.hashing import file_digest
from curate.storage.places import files_under
from curate.storage.records import read_record, record_text
from curate.storage.temporary import temporary_folder, temporary_place

_TEXTS = frozenset([".md", ".html", ".json", ".yaml"])
_PATH = re.compile(r"(?:^|(?<=[\s\"'(=:,\[{`]))(?:/[^\s\"'`,()\[\]{}<>:/]+){2,}")
_WHOLE = re.compile(r"(?:file://|~)?(?:/[^/\n]+){2,}/?|[A-Za-z]:\\[^\n]+")

_LEAST = 6  # characters of a path that has been shortened


def without_local_paths(folder: Path) -> None:
    """Replace absolute paths in the record, card and report of a finished dataset by their last part, in place.

    The checksums of the record are those of the new files. Interrupted halfway, the folder counts as damaged, and is
    written again.
    """
    record = read_record(folder / RECORD, "rerun the command that wrote it with --fresh")
    replacements = {
        path: re.split(r"[/\\]", path.rstrip("/"))[-1] for path in sorted(_paths(record), key=len, reverse=True)
    }
    replacements |= {f"{place}/": "" for place in (os.getcwd(), os.path.expanduser("~")) if place != "/"}
    for path in files_under(folder):
        if path.suffix in _TEXTS and path.name != RECORD:
            text = path.read_text(encoding="utf-8")
            changed = _replaced(text, replacements)
            if changed != text:
                publish_file(path, changed, replace=True)
            name = path.relative_to(folder).as_posix()
            if name in record.get("files", {}):
                record["files"][name] = file_digest([(path, path.name)])
    shared = _without(record, replacements)
    if record_text(shared) != (folder / RECORD).read_text(encoding="utf-8"):
        publish_file(folder / RECORD, record_text(shared), replace=True)


@contextmanager
def shared_copy(folder: Path) -> Iterator[Path]:
    """A temporary copy of a finished dataset without local paths; large files are linked, not copied."""
    with temporary_folder("curate-push-", temporary_place()) as copy:
        for path in files_under(folder):
            name = path.relative_to(folder)
            if name.parts[0] in {*DATASET_PARTS, RECORD}:
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(path, copy / name)
                except OSError:  # another disk
                    shutil.copy2(path, copy / name)
        without_local_paths(copy)
        yield copy


def _paths(value: Any) -> set[str]:
    """The absolute local paths among the strings of a JSON value, and those inside of them that exist here."""
    if isinstance(value, dict):
        return {path for item in value.values() for path in _paths(item)}
    if isinstance(value, list):
        return {path for item in value for path in _paths(item)}
    if not isinstance(value, str):
        return set()
    if _WHOLE.fullmatch(value):
        return {value}
    return {path for path in _PATH.findall(value) if os.path.lexists(path) or os.path.isdir(os.path.dirname(path))}


def _without(value: Any, known: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item, known) for item in value]
    return _replaced(value, known) if isinstance(value, str) else value


def _replaced(text: str, known: dict[str, str]) -> str:
    """The text without the paths, whole or shortened with an ellipsis, as they are or as HTML and JSON write them."""
    for path, name in known.items():
        for write in (str, html.escape, _as_in_templates, json.dumps):
            written, short = write(path).strip('"'), write(name).strip('"')
            text = text.replace(written, short)
            begin = re.escape(written[:_LEAST])
            text = re.sub(f"{begin}[^\\n…]{{0,4000}}…", partial(_unless_beginning, path=written, name=short), text)
    return text


def _as_in_templates(text: str) -> str:
    """As Jinja escapes it, with other names of the quotes than `html.escape`."""
    return html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


def _unless_beginning(match: re.Match[str], path: str, name: str) -> str:
    """What replaces a text that ends in an ellipsis: `name` if it is the beginning of the path `path`, else itself."""
    return name if path.startswith(match[0][:-1]) else match[0]

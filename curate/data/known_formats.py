"""The list of file formats: reading, messages and help texts take it from here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from curate.data.file_format import Format
from curate.data.wording import alternatives

_package: Any = import_module("curate.data.formats")  # whose stub is the list
FORMATS: tuple[Format, ...] = tuple(getattr(_package, name) for name in _package.__all__)
SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)
NAMES = alternatives([known.name for known in FORMATS])
# Formats to which an option of text files applies.
ENCODED = tuple(known.name for known in FORMATS if known.parse is not None)
DELIMITED = tuple(known.name for known in FORMATS if known.has_delimiter)

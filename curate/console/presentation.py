"""Display of results: at most fifteen lines in a terminal, a small table in a notebook."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from curate.console.formatting import one_line, visible

MOST_LINES = 15
_WIDTH, _LABEL = 110, 30  # characters of the text and of the label of one line
_STYLE = "text-align:left;padding:2px 12px 2px 0;vertical-align:top;background:none"


@dataclass(frozen=True)
class Facts:
    """A title and facts, pairs of a label and a text.

    above: trusted markup that a notebook shows between the title and the table.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    above: str = ""

    def __str__(self) -> str:
        facts = [(one_line(label, _LABEL), text) for label, text in self.facts[: MOST_LINES - 1]]
        wide = max((len(label) for label, _ in facts), default=0)
        return "\n".join([_line(self.title), *(f"  {label:<{wide}}  {_line(text)}" for label, text in facts)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """HTML for notebooks; texts are escaped, and control characters are made visible."""
        cells = "".join(f'<tr style="background:none">{_cells(label, text)}</tr>' for label, text in self.facts)
        return f"<div><strong>{_escaped(self.title)}</strong>{self.above}<table>{cells}</table></div>"


class Presented(ABC):
    """Base of results that display their summary when printed or evaluated in a notebook."""

    @abstractmethod
    def summary(self) -> Facts:
        """The result in a few lines."""

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


class Tabular(Presented):
    """Base of results that are tables: rows by number and slice, columns by name."""

    @abstractmethod
    def to_arrow(self) -> Any:
        """Its rows as a pyarrow.Table."""

    @abstractmethod
    def __len__(self) -> int: ...

    def to_pandas(self) -> Any:
        """Its rows as a pandas.DataFrame."""
        return self.to_arrow().to_pandas()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.to_arrow().to_batches(max_chunksize=1_000):
            yield from batch.to_pylist()

    def __getitem__(self, key: int | slice | str) -> Any:
        """A row as a dict by its number, rows as an Arrow table by a slice, a column as an Arrow array by its name."""
        table = self.to_arrow()
        if isinstance(key, str):
            if key not in table.column_names:
                raise KeyError(f"there is no column {key!r}; columns are {', '.join(table.column_names)}")
            return table[key]
        if isinstance(key, slice):
            start, stop, step = key.indices(len(table))
            return table.slice(start, max(0, stop - start)) if step == 1 else table.take(list(range(start, stop, step)))
        number = key.__index__()
        if not -len(table) <= number < len(table):
            raise IndexError(f"there is no row {number}; there are {len(table):,}")
        return table.slice(number % len(table), 1).to_pylist()[0]


def chain(parts: Sequence[tuple[str, str]]) -> str:
    """HTML of boxes connected by arrows. parts: (heading, text) of each box."""
    box = "display:inline-block;border:1px solid #8887;border-radius:6px;padding:4px 10px;margin:4px 0;text-align:left"
    boxes = (
        f'<span style="{box}"><small style="opacity:.7">{_escaped(heading)}</small><br>{_escaped(text)}</span>'
        for heading, text in parts
    )
    return '<div style="line-height:1.35">' + '<span style="opacity:.7"> → </span>'.join(boxes) + "</div>"


def _cells(label: str, text: str) -> str:
    """The cells of a fact; one without a label takes the width of both."""
    if not label:
        return f'<td colspan="2" style="{_STYLE}">{_escaped(text)}</td>'
    return f'<th style="{_STYLE};font-weight:600">{_escaped(label)}</th><td style="{_STYLE}">{_escaped(text)}</td>'


def _line(text: str) -> str:
    return one_line(text, _WIDTH)


def _escaped(text: str) -> str:
    return html.escape(visible(text, 500))

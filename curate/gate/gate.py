"""The gate that every new row of a dataset must pass."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, field_validator

from curate.component import Component
from curate.data.examples import Examples
from curate.dataset_reference import READING, in_braces
from curate.engine.protocol import Engine, Item, WorkerContext
from curate.errors import ExternalError, InputError
from curate.gate.compared_text import Part, compared_texts, read_texts
from curate.gate.minhash import Pairs, Sketches, shingles, sketches
from curate.gate.near_index import Match, NearIndex, admit
from curate.gate.ngrams import EvaluationSet, Rules, Views
from curate.gate.normalization import Positions, Words, split_words, word_blocks

_READING = {"data", "name", *READING} - {"limit"}


class Hit(NamedTuple):
    """A match of a text.

    kind: "evaluation exact", "evaluation 13-gram" (of any size asked for), "evaluation template", "near-duplicate of
    source" or "near-duplicate of new". dataset: its name; "source" or "new" where it has none. id: of the row that was
    hit. score: Jaccard similarity of a near-duplicate, in 0..1, else None. text: the normalized text that both have,
    numbers as # in a template; None for a near-duplicate.
    """

    kind: str
    dataset: str
    id: str
    score: float | None
    text: str | None

    def __str__(self) -> str:
        """The kind, a colon, and what was matched."""
        return f"{self.kind}: {self.what}"

    @property
    def what(self) -> str:
        """The match: dataset, id, and the score or the text."""
        score = "" if self.score is None else f" ({self.score:.2f})"
        text = "" if self.text is None else f": {self.text!r}"
        return f"{self.dataset} {self.id}{score}{text}"


class Gate(Component):
    """Rules for what may not enter a dataset: near-duplicates, and text shared with evaluation sets.

    index = Gate(evaluation=("test.parquet",)).open(examples)
    index.check(["A new problem ..."])      # what each text hits; nothing is remembered
    index.admit(texts, ids)                 # the same in order, and texts without a hit are hit by later ones

    evaluation: sets that no row may share text with, each a `data` argument of `curate.read` (in a
        recipe: a path or hub id), or {data, name} with the options of `curate.dataset_reference.Reading`.
    near_duplicate: minimum Jaccard similarity of the sets of shingles of near-duplicates; None = off.
        At 0.7, three numbers changed in a problem of 60 words make a near-duplicate, a new story does not.
    shingle: consecutive words per shingle. A text with fewer words is one shingle.
    ngrams: sizes in words; sharing one run of that many words is a hit, mathematical operators excluded. Short runs are
        strict: 8 words can be a common phrase ("what is the sum of all values of"; a third of MATH's training
        questions share 8 words with its test questions, a tenth share 13). A text with fewer words is compared
        as a whole. Whole texts are always compared: equal except for case, punctuation and space is a hit.
    template: whether texts that are equal except for their numbers (in digits or English words) are a hit, if they have
        at least template_words other words, since "# + #" is not a template.
    part: "prompt" compares only prompts, "all" also completions; see `compared_texts`.

    Every rule that applies is reported, so an exact hit is usually an n-gram hit too.
    """

    evaluation: tuple[str | dict[str, Any], ...] = ()
    near_duplicate: float | None = Field(
        0.7, gt=0, le=1, description="Jaccard similarity of word shingles that makes near-duplicates"
    )
    shingle: int = Field(3, ge=1, le=64, description="words per shingle")
    ngrams: tuple[Annotated[int, Field(ge=2, le=256)], ...] = Field(
        default=(8, 13), description="lengths in words of text that must not be shared with an evaluation set (8,13)"
    )
    template: bool = True
    template_words: int = Field(5, ge=1)
    part: Part = Field(default="prompt", description="what is compared")

    @field_validator("evaluation")
    @classmethod
    def _known_options(cls, sets: tuple[str | dict[str, Any], ...]) -> tuple[str | dict[str, Any], ...]:
        for item in sets:
            if isinstance(item, dict) and ("data" not in item or not set(item) <= _READING):
                raise ValueError(f"evaluation set {item} must have data, and else only {', '.join(sorted(_READING))}")
        return sets

    def open(
        self,
        source: Examples | Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        engine: Engine | None = None,
    ) -> GateIndex:
        """An index of the evaluation sets and the source rows, built once.

        source: rows that new ones must not be near to: examples (their compared texts and ids), or texts with `ids`
            (None = their positions). Memory: about 0.8 kB per text of 40 words beside the texts.
        engine: see `GateIndex.admit`.
        Raises InputError if an evaluation set cannot be read, is empty or has no prompt, and ExternalError if
        the hub cannot be reached.
        """
        rules = Rules(self.ngrams, self.template, self.template_words)
        sets: list[EvaluationSet] = []
        for item in self.evaluation:
            options = dict(item) if isinstance(item, dict) else {"data": item}
            data = options.pop("data")
            try:
                read = read_texts(data, part=self.part, **options)
            except (InputError, ExternalError) as error:
                raise type(error)(f"evaluation set {data}: {in_braces(str(error))}") from error
            name = _unused(read.name, [evaluation.name for evaluation in sets])
            sets.append(EvaluationSet(name, read.texts.to_pylist(), read.ids.to_pylist(), rules))
            if not sets[-1].readable:
                raise InputError(
                    f"evaluation set {data}: no row has a text to compare; name the column: columns text=COLUMN"
                )
        index = GateIndex(self, tuple(sets))
        if source is not None:
            index.add_source(source, ids, engine=engine)
        return index


_SENT = 8_192  # texts sent to a worker at once; fewer are compared in this process
_WINDOW = 256  # such parts in progress or waiting for earlier ones, which bounds memory
_Block = tuple[int, list[list[Hit]], Sketches | None]


class GateIndex:
    """The texts that new rows are compared with; created by `Gate.open`. Not thread-safe."""

    def __init__(self, gate: Gate, evaluations: tuple[EvaluationSet, ...]) -> None:
        self.gate, self.evaluations = gate, evaluations
        threshold = gate.near_duplicate or 1.0
        self._source, self._new = NearIndex(threshold), NearIndex(threshold)
        self._source_ids: list[tuple[str, str]] = []  # dataset and id of each row
        self._new_ids: list[str] = []

    def __len__(self) -> int:
        """Number of new texts that later ones are compared with."""
        return len(self._new_ids)

    @property
    def crowded(self) -> int:
        """Searches with more texts under one key than are compared; see `curate.gate.minhash`."""
        return self._source.crowded + self._new.crowded

    @property
    def compared(self) -> int:
        """Number of pairs of texts whose exact similarity was computed."""
        return self._source.compared + self._new.compared

    def add_source(
        self,
        source: Examples | Sequence[str],
        ids: Sequence[str] | None = None,
        name: str = "source",
        engine: Engine | None = None,
    ) -> None:
        """Add rows that new ones must not be near-duplicates of, as in `Gate.open`. name: dataset label in hits."""
        texts: Any = source
        if isinstance(source, Examples):
            ids = source.ids.to_pylist()
            texts = compared_texts(source.readable, source.shape, source.columns, self.gate.part)
        row_ids = [str(len(self._source_ids) + k) for k in range(len(texts))] if ids is None else ids
        _check_ids(texts, row_ids)
        if self.gate.near_duplicate is None:
            return
        self._source_ids += [(name, row_id) for row_id in row_ids]
        if engine is None or len(texts) <= _SENT:
            for _, words in word_blocks(texts):
                self._source.add(self._sketches(words))
            return
        parts = _parts(texts)
        for _, blocks, _ in engine.map(_SketchingWorker, self.gate, parts, stage="signatures", window=_WINDOW):
            for sketched in blocks:
                self._source.add(sketched)

    def check(self, texts: Sequence[str], engine: Engine | None = None) -> list[list[Hit]]:
        """Hits of each text (n,), at most one per rule and dataset; [] if it may enter. Stores nothing.

        engine: see `admit`.
        """
        all_hits: list[list[Hit]] = []
        for _, hits, sketched in self._compared(texts, engine):
            if sketched is not None:
                pairs = self._new.search(sketched)[0]
                for query, match in _first(pairs).items():
                    hits[query].append(self._new_hit(match))
            all_hits += hits
        return all_hits

    def add(self, text: str, id: str) -> None:
        """Compare later texts with this one, regardless of its own hits."""
        if self.gate.near_duplicate is not None:
            self._new.add(self._sketches(split_words([text])))
        self._new_ids.append(id)

    def admit(self, texts: Sequence[str], ids: Sequence[str], engine: Engine | None = None) -> list[list[Hit]]:
        """`check` each text in order, and add those without a hit: of near-duplicates, the first is kept.

        ids (n,): of the texts, for hits. The result does not depend on how the texts are divided over calls. engine:
        its workers compare many texts with the fixed rows and make their sketches; None = this process.
        """
        _check_ids(texts, ids)
        all_hits: list[list[Hit]] = []
        for low, hits, sketched in self._compared(texts, engine):
            free = np.array([not hit for hit in hits], np.bool_)  # (n,) without a hit so far
            if sketched is None:
                self._new_ids += [ids[low + k] for k in np.flatnonzero(free).tolist()]
                all_hits += hits
                continue
            matches = admit(self._new, sketched, free)
            filled = sketched.shingles.sizes > 0
            for k, match in enumerate(matches):
                if match is None and free[k] and filled[k]:
                    self._new_ids.append(ids[low + k])
            for k, match in enumerate(matches):
                if match is not None:
                    hits[k].append(self._new_hit(match))
            all_hits += hits
        return all_hits

    def _compared(self, texts: Sequence[str], engine: Engine | None = None) -> Iterator[_Block]:
        """(first text, hits in fixed rows, sketches) of each block of the texts, in their order."""
        if engine is not None and len(texts) > _SENT:
            yield from self._compared_by(engine, texts)
            return
        for low, words in word_blocks(texts):
            yield low, *self._fixed_hits(words)

    def _compared_by(self, engine: Engine, texts: Any) -> Iterator[_Block]:
        """Like `_compared`, on the engine's workers."""
        fixed = copy.copy(self)
        fixed._source, fixed._new, fixed._new_ids = copy.copy(self._source), NearIndex(self._new.threshold), []
        results = engine.map(_ComparingWorker, fixed, _parts(texts), stage="compare", window=_WINDOW)
        for position, (blocks, compared, crowded), _ in results:
            self._source.compared += compared
            self._source.crowded += crowded
            for low, hits, sketched in blocks:
                yield position * _SENT + low, hits, sketched

    def _sketches(self, words: Words) -> Sketches:
        assert self.gate.near_duplicate is not None
        return sketches(shingles(words, self.gate.shingle), self.gate.near_duplicate)

    def _fixed_hits(self, words: Words) -> tuple[list[list[Hit]], Sketches | None]:
        """Hits in evaluation sets and source rows, and the sketches if near-duplicates are searched for."""
        hits: list[list[Hit]] = [[] for _ in range(len(words))]
        if self.evaluations:
            views = Views(words)
            for held_out in self.evaluations:
                for shared in held_out.shared(views):
                    hit = Hit(f"evaluation {shared.rule}", held_out.name, held_out.ids[shared.row], None, shared.text)
                    hits[shared.query].append(hit)
        if self.gate.near_duplicate is None:
            return hits, None
        sketched = self._sketches(words)
        if len(self._source):
            pairs = self._source.search(sketched)[0]
            best = np.lexsort((pairs.row, -pairs.score, pairs.query))
            for query, (row, score) in _first(Pairs(pairs.query[best], pairs.row[best], pairs.score[best])).items():
                hits[query].append(Hit("near-duplicate of source", *self._source_ids[row], score, None))
        return hits, sketched

    def _new_hit(self, match: Match) -> Hit:
        return Hit("near-duplicate of new", "new", self._new_ids[match.row], match.score, None)


class _ComparingWorker:
    """Runs on a worker: holds the fixed rows, and compares the texts that it is called with."""

    def __init__(self, index: GateIndex, worker: WorkerContext) -> None:
        self.index = index

    def __call__(self, texts: list[str]) -> tuple[list[_Block], int, int]:
        """The compared blocks, and their increments to the counts of the source index."""
        source = self.index._source
        before = source.compared, source.crowded
        blocks = list(self.index._compared(texts))
        return blocks, source.compared - before[0], source.crowded - before[1]


class _SketchingWorker:
    """Runs on a worker: the sketches of the texts that it is called with, block by block."""

    def __init__(self, gate: Gate, worker: WorkerContext) -> None:
        self.index = GateIndex(gate, ())

    def __call__(self, texts: list[str]) -> list[Sketches]:
        return [self.index._sketches(words) for _, words in word_blocks(texts)]


def _parts(texts: Any) -> list[Item]:
    """Texts, an Arrow array or a list, as items of `_SENT` texts."""

    def payload(low: int) -> list[str | None]:
        part = texts[low : low + _SENT]
        return part if isinstance(part, list) else part.to_pylist()

    return [Item(partial(payload, low), min(_SENT, len(texts) - low)) for low in range(0, len(texts), _SENT)]


def _first(pairs: Pairs) -> dict[int, Match]:
    """The first match of each query."""
    queries, first = np.unique(pairs.query, return_index=True)
    matches = zip(queries.tolist(), pairs.row[first].tolist(), pairs.score[first].tolist(), strict=True)
    return {query: Match(row, score) for query, row, score in matches}


def _check_ids(texts: Sequence[str], ids: Sequence[str]) -> None:
    if len(ids) != len(texts):
        raise InputError(f"there are {len(ids)} ids for {len(texts)} texts; give one per text")


def _unused(name: str, taken: Sequence[str]) -> str:
    number = 1
    while (label := name if number == 1 else f"{name} ({number})") in taken:
        number += 1
    return label


def near_duplicates(texts: Sequence[str], gate: Gate | None = None) -> tuple[Positions, Positions]:
    """Positions (p,) and (p,) of near-duplicate pairs among n texts, by the gate's threshold and shingles.

    Each pair may come in both orders; a text is never paired with itself. Of many texts with a common key only some
    pairs are compared (`curate.gate.near_index`): which, depends on the order of the texts.
    """
    gate = gate or Gate()
    if gate.near_duplicate is None or not len(texts):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    index = NearIndex(gate.near_duplicate)
    sketched = []
    for _, words in word_blocks(texts):
        sketched.append(sketches(shingles(words, gate.shingle), gate.near_duplicate))
        index.add(sketched[-1])
    low, queries, rows = 0, [], []
    for part in sketched:
        pairs = index.search(part)[0]
        queries.append(pairs.query + low)
        rows.append(pairs.row)
        low += len(part)
    query, row = np.concatenate(queries), np.concatenate(rows)
    return query[query != row], row[query != row]

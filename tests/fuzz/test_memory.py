"""A machine that is short of memory is told so, and not that its files are damaged."""

from __future__ import annotations

import errno
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import ExternalError, InputError, memory_ran_out
from tests.fuzz.harness import Driver, fault

_OTHERS = [OSError(errno.ENOSPC, "No space left"), ValueError("bad"), InputError("give --columns")]
_MEMORY = [
    MemoryError(),
    pa.ArrowMemoryError("malloc of size 64 failed"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
]


@pytest.mark.parametrize("error", _MEMORY, ids=repr)
def test_it_is_found_below_an_error_that_says_something_else(error: Exception) -> None:
    assert memory_ran_out(error)
    wrapped = InputError("x.parquet is not readable; fetch or write it again")
    wrapped.__cause__ = error
    assert memory_ran_out(wrapped)
    knows = ExternalError("one row needs more memory than there is; lower max_length")
    knows.__cause__ = error
    assert not memory_ran_out(knows)


@pytest.mark.parametrize("error", _OTHERS, ids=repr)
def test_nothing_else_is_taken_for_it(error: Exception) -> None:
    assert not memory_ran_out(error)


@pytest.mark.slow
def test_commands_without_room_say_so(driver: Driver, tmp_path: Path) -> None:
    texts = [f"{k} " + "x" * 100 for k in range(300_000)]
    pq.write_table(pa.table({"prompt": texts, "completion": texts}), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"prompt": "{text}", "completion": "{text}"}}\n' for text in texts))
    for name in ("rows.parquet", "rows.jsonl"):
        answer = driver.run(["plan", name, "--set=scorer={use: Length}"], tmp_path, room=16 << 20)
        assert fault(answer) is None
        assert answer.status == 3
        assert "memory ran out" in answer.line

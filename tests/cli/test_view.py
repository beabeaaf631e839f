"""`curate view`: what it refuses, and where it listens."""

from pathlib import Path

import pytest

from curate.cli.view import listening
from curate.errors import InputError
from tests.fixtures.commands import Call


def test_it_listens_on_this_machine_alone() -> None:
    with listening(0) as found:
        assert found.getsockname()[0] == "127.0.0.1"
        with pytest.raises(InputError, match="leave out --port"):
            listening(found.getsockname()[1])


def test_a_folder_without_a_result_is_refused(call: Call, tmp_path: Path) -> None:
    done = call("view", tmp_path, "--no-open")
    assert done.status == 2
    assert "run.json" in done.error
    assert "inspect" in call("view", tmp_path, "--json").out

"""`curate doctor` says what works on this machine and what does not."""

from pathlib import Path

import pytest

from tests.fixtures.commands import Call


@pytest.mark.slow
def test_doctor(call: Call, tmp_path: Path) -> None:
    done = call("doctor", "--cache", tmp_path / "cache", "--json")
    assert done.status == 0
    findings = {finding["name"]: finding for finding in done.json["findings"]}
    assert findings["tiny run"]["status"] == "good"
    assert findings["torch"]["status"] == "good"
    assert all(finding["remedy"] for finding in findings.values() if finding["status"] == "bad")


@pytest.mark.parametrize("as_json", [False, True])
def test_doctor_fails_where_something_is_bad(
    as_json: bool, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.cli.doctor._tiny_run", lambda: ("bad", "no", "mend it"))
    (tmp_path / "file").write_text("")
    done = call("doctor", "--cache", tmp_path / "file", *(["--json"] if as_json else []))
    assert done.status == 3
    assert "cache, tiny run" in done.error
    if as_json:
        assert done.json["ok"] is False
    else:
        assert "mend it" in done.out

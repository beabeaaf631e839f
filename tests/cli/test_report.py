"""`curate report`: the page of a finished run, rewritten."""

from tests.fixtures.commands import Call, Finished


def test_report_is_written_anew_with_the_same_bytes(finished: Finished, call: Call) -> None:
    before = (finished.out / "report.html").read_bytes()
    (finished.out / "report.html").unlink()
    assert call("report", finished.out, "--json").json == {"report": str(finished.out / "report.html")}
    assert (finished.out / "report.html").read_bytes() == before

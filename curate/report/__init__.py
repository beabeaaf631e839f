"""report.html: one self-contained page about a finished run."""

from curate.report.run_page import write_report

__all__ = ["write_report"]

"""`curate report`: rewrite report.html of a finished run."""

from __future__ import annotations

import argparse
from typing import Any

from curate.console.printing import say
from curate.report.run_page import write_report
from curate.storage.places import local_path
from curate.storage.records import read_finished


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate report`."""
    parser.add_argument("directory", type=local_path, metavar="DIR")


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate report`: rewrite report.html."""
    read_finished(options.directory)
    path = write_report(options.directory)
    if not options.json:
        say(str(path))
    return {"report": str(path)}

"""`curate synthesize`: new problems from the solutions of hard rows, and nothing else; a run of another recipe."""

from __future__ import annotations

import argparse

from curate.cli.run import add_result_arguments
from curate.cli.run import command as command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate synthesize`."""
    add_result_arguments(parser, "synthesize")

"""`curate push`: upload a finished result as a dataset repository to the Hugging Face Hub."""

from __future__ import annotations

import argparse
from typing import Any

from curate.console.printing import say
from curate.errors import InputError
from curate.storage.destination import Destination
from curate.storage.folders import DATASET_PARTS, RECORD
from curate.storage.hub import check_login, is_repository, upload
from curate.storage.local_paths import shared_copy
from curate.storage.places import local_path
from curate.storage.records import check_files, read_finished


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate push`, but for --json, which every command has."""
    parser.add_argument("directory", type=local_path, metavar="DIR", help="folder that `curate run` wrote")
    parser.add_argument("repository", metavar="ORG/NAME", help="dataset repository; created if it does not exist")
    parser.add_argument("--public", action="store_true", help="make a new repository public (private)")
    parser.add_argument("--fresh", action="store_true", help="replace another result there")


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate push`: upload all files of the result in one commit."""
    if not is_repository(options.repository):
        raise InputError(f"{options.repository} is not a name of a repository; write ORG/NAME")
    folder = options.directory
    record = read_finished(folder)
    check_files(folder, record, "rerun the command that wrote it with --fresh")
    check_login()
    destination = Destination.of(f"hf://datasets/{options.repository}", option="")
    if destination.check(str(record["inputs"]), fresh=options.fresh):
        done_before, url = True, f"hf://datasets/{options.repository}"
    else:
        with shared_copy(folder) as copy:
            url = upload(copy, options.repository, [*sorted(DATASET_PARTS), RECORD], private=not options.public)
        done_before = False
    if not options.json:
        done = "already holds this result; nothing to do (--fresh sends it again)" if done_before else "holds it now"
        say(f"{url} {done}", f"load it: datasets.load_dataset({options.repository!r})")
    return {"repository": options.repository, "url": url, "done_before": done_before}

"""`curate view`: browse all rows of a finished run in a web browser on this machine."""

from __future__ import annotations

import argparse
import logging
import socket
import webbrowser
from contextlib import suppress
from typing import Any

from curate.console.printing import say, tell
from curate.errors import ExternalError, InputError
from curate.report.row_store import RowStore
from curate.report.view_server import HOST, Access, application
from curate.storage.places import local_path
from curate.storage.temporary import temporary_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate view`."""
    parser.add_argument("directory", type=local_path, metavar="DIR", help="folder that `curate run` wrote")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of the page (any free one)")
    parser.add_argument("--no-open", action="store_true", help="print the address without opening a browser")


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate view`: serve until interrupted."""
    if options.json:
        raise InputError("curate view is a page for a person; curate inspect DIR --json has the numbers")
    try:
        import uvicorn
    except ImportError as error:
        raise ExternalError("the page is served with uvicorn; pip install 'curate-lm[view]'") from error
    with temporary_folder("curate-view-") as folder, listening(options.port) as listened:
        tell("reading the rows ...")
        store = RowStore(options.directory, folder)
        access = Access(listened.getsockname()[1])
        app = application(store, access)
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, proxy_headers=False)
        logging.getLogger("uvicorn.error").addFilter(_worth_telling)
        try:
            with suppress(KeyboardInterrupt):  # the way to end it; uvicorn has closed what was open
                say(f"open {access.address}", "the address works once; Ctrl-C stops the server")
                if not options.no_open:
                    webbrowser.open(access.address)
                uvicorn.Server(config).run(sockets=[listened])
        finally:
            store.close()
    return {}


def _worth_telling(record: logging.LogRecord) -> bool:
    """Whether what uvicorn logs is a fault: a request that broke off is none, though its answer raises in h11."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__module__.partition(".")[0] != "h11"


def listening(port: int) -> socket.socket:
    """A socket bound to the loopback interface, which nothing outside this machine can reach."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise InputError(f"port {port} cannot be used ({error}); leave out --port to get one that is free") from error
    return listening

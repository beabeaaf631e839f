"""Command-line options that choose where the work of a command runs."""

from __future__ import annotations

import argparse
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from curate.cli.fields import add_field_options, field_values, option_of, options_of
from curate.engine import Ray
from curate.engine.connection import check_address
from curate.errors import InputError


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --engine and its options; the command reads the engine from `options.workers_of`."""
    group = parser.add_argument_group("on whose machines")
    group.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="this process, or workers of a Ray cluster (local)"
    )
    add_field_options(group, Ray, options_of(Ray), {"address": "ADDRESS"})
    parser.set_defaults(open_engine=open_engine, workers_of=None)


def open_engine(options: argparse.Namespace) -> AbstractContextManager[Ray | None]:
    """Open the engine of a command (None = this process) and close it at the end of the block."""
    fields = field_values(options, options_of(Ray))
    if options.engine == "local":
        if fields:
            raise InputError(f"{option_of(next(iter(fields)))} is for --engine ray; add that, or leave it out")
        return nullcontext()
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("--engine ray starts its own ranks: give --train-workers N, and start curate without torchrun")
    settings: dict[str, Any] = {**fields, "device": getattr(options, "device", None)}
    return _made(settings)


def _made(settings: dict[str, Any]) -> Ray:
    from pydantic import ValidationError

    try:
        engine = Ray(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{option_of(str(first['loc'][0]))} {first['input']}: {first['msg']}") from error
    check_address(engine.address)  # before data are read, which may take long
    return engine

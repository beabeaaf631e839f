"""Subcommands of the `curate` command line, one module each."""

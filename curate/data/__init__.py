"""Rows in and out, as Arrow tables; nothing here needs torch."""

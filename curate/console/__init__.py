"""Terminal output: formatting, tables and progress."""

"""Compare fine-tuned runs: paired differences with confidence intervals, tables and a report."""

"""Evaluation of models: final answers graded and reference completions scored, row by row.

`evaluate` evaluates a fine-tuned run, a model or a generator; `read_evaluations` reads the results in a folder.
"""

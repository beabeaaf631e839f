"""Evaluation of models: grade final answers and score reference completions, row by row.

`evaluate` evaluates a fine-tuned run, a model or a generator; `read_evaluations` reads results from a folder.
"""

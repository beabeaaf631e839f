"""Evaluation of models: grade final answers and score reference completions, row by row."""

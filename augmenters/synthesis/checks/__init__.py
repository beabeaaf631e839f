"""Checks of new problems, one per module; `registry` lists them with the reasons that they record.

A check never guesses: where it cannot read what it judges, it lets the problem pass.
"""

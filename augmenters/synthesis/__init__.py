"""New problems from old solutions: variational synthesis (SvS, arXiv 2508.14029), offline.

A model sees the solution of a hard row and writes a problem that this solution would answer; since the solution
fixes the answer, the new problem inherits it. The same model then solves the new problem several times, and it is
kept where some of the answers agree with the original one, but not most: neither broken nor easy.
"""

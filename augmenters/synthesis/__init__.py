"""New problems from old solutions: variational synthesis (SvS, arXiv 2508.14029), offline."""

"""Plan a mixture from a split, and make its rows."""

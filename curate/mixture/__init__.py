"""From the split to the rows of the result."""

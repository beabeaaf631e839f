"""Examples: an Arrow table whose rows have an id, a shape and known column roles."""

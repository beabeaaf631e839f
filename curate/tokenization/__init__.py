"""Text around an example, and its token ids."""

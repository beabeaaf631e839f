"""Storage that survives a kill: atomic writes, the cache, records and folders."""

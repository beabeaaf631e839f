"""What must survive a kill: atomic writes, the cache, records and folders."""

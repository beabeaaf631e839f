"""The proxy model: trained once, measured at every checkpoint."""

"""The proxy model: trained once and measured at every checkpoint."""

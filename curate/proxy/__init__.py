"""The proxy model: trained once, measured at every checkpoint."""

from curate.proxy.proxy import Proxy, Schedule

__all__ = ["Proxy", "Schedule"]

"""Model extrapolation (ExPO, arXiv 2404.16792) beyond a tuned model, along the change from its base."""

"""Reference fine-tuning: one command and one folder per run, with the same training loop as proxies."""

"""Reference fine-tuning: one command, one folder per run, with the training loop that proxies use too."""

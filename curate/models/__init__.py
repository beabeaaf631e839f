"""Loading a causal language model, and every forward pass through one."""

"""From scores to the split into easy and hard examples."""

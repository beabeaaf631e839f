"""Near-duplicate detection and decontamination against evaluation sets."""

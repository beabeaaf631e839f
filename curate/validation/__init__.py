"""Validate a recipe: fine-tune, evaluate and compare arms of the data with one call."""

"""Prompts of synthesis, a file each; places such as {{solution}} are filled in as they are."""

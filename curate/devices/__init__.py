"""Processes, memory and number formats of this machine."""

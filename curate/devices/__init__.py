"""Processes, memory and number formats of the machine."""

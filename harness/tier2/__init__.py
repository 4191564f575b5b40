"""Latency, memory, heat and take-off on the board: what is measured in which process, and the gates that judge it."""

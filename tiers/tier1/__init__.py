"""Tier-1: numerical parity of all runtimes, on a workstation."""

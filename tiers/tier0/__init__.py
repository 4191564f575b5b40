"""Tier-0: what any machine can check, with no GPU."""

"""Tier-2: latency, memory and heat, on the edge device."""

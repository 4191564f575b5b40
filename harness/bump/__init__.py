"""Measuring for a comparison: a run like another, several builds of one engine, two installations in turn."""

"""Runs over time: one index file, rows and their steps, baselines by name, and what other tools measured."""

from harness.history.runs import GOLDEN, History, resolve

__all__ = ["GOLDEN", "History", "resolve"]

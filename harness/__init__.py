"""Measure, compare, judge: from a case to a verdict, and a run folder on disk."""

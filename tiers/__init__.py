"""The product's own suites, installed with it. Thin: an item asks the harness for a row and ends with its verdict."""

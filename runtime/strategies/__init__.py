"""One file per strategy, named after what it does and not after the library behind it."""

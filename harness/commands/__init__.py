"""The commands of ``trigate``, a file each, under the roof that ``harness.cli`` is: they may import everything."""

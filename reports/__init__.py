"""From run folders to what people and machines read. Sees ``harness.records`` and the run folder, nothing else."""

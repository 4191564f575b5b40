"""The statistics of latency (methods A1 to A6), and the simulation that holds them to their promises."""

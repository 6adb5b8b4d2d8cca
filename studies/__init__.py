"""What the paper claims, as grids of runs; plans them, runs them, and is the only writer of results/."""

"""From planned runs to processes and jobs: here, in SLURM, and what a worker does."""

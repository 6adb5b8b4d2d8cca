"""What SLURM is asked, and the profiles of sites."""

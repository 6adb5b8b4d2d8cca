"""What the paper claims, as grids of runs; plans them, runs them, and is the only writer of results/."""

from segnext.door import watch_over_imports

watch_over_imports()

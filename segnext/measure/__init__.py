"""Parameters and FLOPs, latency and memory, the time of a training step, the machine."""

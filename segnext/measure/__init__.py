"""Measurements: parameters and FLOPs, latency and memory, the time of a training step, facts about the machine."""

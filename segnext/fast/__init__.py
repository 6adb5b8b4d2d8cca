"""Kernels for CUDA, each behind one plain function; `segnext.fast.choice` decides when they are used."""

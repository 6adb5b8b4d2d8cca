"""Kernels for CUDA, each behind one plain function; `segnext.fast.choice` says where they are used."""

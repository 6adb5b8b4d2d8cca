"""Evaluation of a trained network: predictions, metrics, archives for test servers."""

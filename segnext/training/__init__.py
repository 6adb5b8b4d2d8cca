"""The trainer: the step, the two tasks (segmentation, classification), and training states on disk."""

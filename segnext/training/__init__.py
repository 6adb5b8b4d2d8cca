"""The trainer: one step, two tasks, states on disk."""

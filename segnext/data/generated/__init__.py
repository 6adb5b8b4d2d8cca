"""Data sets that are drawn: the scene, and sub-tasks whose deciding pixels are known."""

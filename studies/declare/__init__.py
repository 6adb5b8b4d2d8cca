"""Declarations: the grammar of a study, protocols, sub-tasks, recipes, expectations, and what others published."""

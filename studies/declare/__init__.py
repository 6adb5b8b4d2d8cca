"""What the paper claims, as values: the grammar of a study, protocols, sub-tasks, recipes, expectations."""

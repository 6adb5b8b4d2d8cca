"""What the records say of a study, gathered for reading."""

"""A finished network on a person's own pictures: read, recognised, segmented, drawn."""

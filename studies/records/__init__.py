"""Files on disk: records, folders of runs, and their provenance; each has one reader and one writer."""

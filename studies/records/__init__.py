"""What stands on disk: records, run folders, and where each came from; one reader and one writer each."""

"""One file a table of the paper. A study is found by its file's name."""

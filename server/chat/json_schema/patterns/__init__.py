"""Set operations on the strings that regular expressions match."""

"""Set operations on the texts that regular expressions match."""

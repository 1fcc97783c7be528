"""Worker processes that analyse clients' grammars, and their client."""

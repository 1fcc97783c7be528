"""Worker processes that analyse grammars, and their client."""

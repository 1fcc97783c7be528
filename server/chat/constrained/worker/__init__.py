"""Worker processes that analyse grammars, and the code that talks to them."""

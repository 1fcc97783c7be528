"""The worker processes that analyse clients' grammars, and the server's side of them."""

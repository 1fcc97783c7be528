"""`lfm-serve chat`: a chat in the terminal, over HTTP only."""

"""The output of a response: its items, its events and its JSON types."""

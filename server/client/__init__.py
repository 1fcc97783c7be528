"""What the project's own clients share: URLs of endpoints, and the reader of their events."""

"""Request fields and response types used by several routes."""

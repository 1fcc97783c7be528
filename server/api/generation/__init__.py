"""Request fields and response types that all generating protocols share."""

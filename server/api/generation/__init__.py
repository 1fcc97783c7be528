"""Request fields and response parts that all generating protocols share."""

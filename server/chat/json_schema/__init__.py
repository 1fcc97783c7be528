"""JSON schemas, normalized so that the grammar compiler enforces every keyword left in them."""

"""JSON schemas, normalized to what the grammar compiler enforces exactly."""

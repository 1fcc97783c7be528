"""Tool calls in the model's own syntax: markers, literals, parsers."""

"""Tool calls in the model's own syntax: markers, literals and two parsers, with and without a grammar."""

"""Tokens -> logits: model files, the graph's contract, sessions and the state they work on."""

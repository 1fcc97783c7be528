"""Constrained generation: grammars restrict the tokens of an answer."""

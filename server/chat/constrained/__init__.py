"""Constrained generation: schemas and grammars that mask the next token."""

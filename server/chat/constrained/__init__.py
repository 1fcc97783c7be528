"""Constrained generation: grammars, built from tools and schemas, that mask the next token."""

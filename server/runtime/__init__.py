"""Runs the model: turns tokens into logits.

Model folders, graphs, sessions, and the state they work on.
"""

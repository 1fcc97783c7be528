"""Runs the model, which turns tokens into logits.

Contains model folders, graphs, sessions, and the state of sequences.
"""

"""Runs the model, which turns tokens into logits."""

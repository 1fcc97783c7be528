"""Finds, writes and checks prepared copies of models."""

"""Prepared copies of models: finding, writing and checking them."""

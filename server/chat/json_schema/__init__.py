"""Normalization of JSON schemas, so that every remaining keyword is enforced."""

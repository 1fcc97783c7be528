"""Metrics, logs and traces for operators.

The layers that this package observes do not import it.
"""

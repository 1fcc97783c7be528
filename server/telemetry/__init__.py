"""Metrics, logs and traces for operators.

Observes the layers below, which do not import it.
"""

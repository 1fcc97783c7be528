"""Metrics, logs and traces for operators.

This package imports the layers that it observes. Those layers do not import this package.
"""

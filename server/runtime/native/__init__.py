"""Runs graphs on the project's own kernels, which are written in C (kernels/)."""

"""Detects the machine's cores, memory and CPU features, and tunes the heap."""

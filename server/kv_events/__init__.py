"""Tells routers which blocks of tokens the prefix cache holds.

The events are those of vLLM, so routers for vLLM servers understand them.
"""

"""Tells routers which blocks of tokens the prefix cache holds.

The server sends the same KV events as vLLM, so routers for vLLM servers understand them.
"""

"""HTTP handling for all routes: bodies, errors, SSE, request IDs, request log."""

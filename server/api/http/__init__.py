"""HTTP code of all routes: bodies, errors, SSE, request IDs, request log."""

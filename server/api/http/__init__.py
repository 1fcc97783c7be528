"""HTTP code that all routes share: bodies, errors, SSE, request IDs, request log."""

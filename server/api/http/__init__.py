"""HTTP plumbing shared by all routes: bodies, errors, SSE, request ids, the request log."""

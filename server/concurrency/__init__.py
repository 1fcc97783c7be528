"""Background threads, and limits that serve tenants in turn."""

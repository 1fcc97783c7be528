"""What an operator sees: metrics, logs and traces. Listens to the layers below, which know nothing of it."""

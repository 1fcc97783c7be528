"""Text <-> tokens: prompts from messages, and deltas (content, tool calls) from tokens."""

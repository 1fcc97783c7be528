"""Reports which blocks of tokens the prefix cache holds, as the KV events that routers of vLLM servers read."""

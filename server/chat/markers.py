"""The special tokens that LFM2 models write around tool calls and thoughts."""

CALL_START, CALL_END = "<|tool_call_start|>", "<|tool_call_end|>"
THINK_START, THINK_END = "<think>", "</think>"

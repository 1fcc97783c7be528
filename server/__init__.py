"""lfm-serve: an OpenAI-compatible server for LFM2 models in ONNX format."""

__version__ = "0.1.0"

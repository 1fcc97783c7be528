"""lfm-serve: serves LFM2 models in ONNX over the OpenAI API."""

__version__ = "0.1.0"

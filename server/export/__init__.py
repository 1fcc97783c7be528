"""Exports a checkpoint, or random weights, to an ONNX model folder."""

from __future__ import annotations

from server.export.folder import Dtype, export_checkpoint, export_random

__all__ = ["Dtype", "export_checkpoint", "export_random"]

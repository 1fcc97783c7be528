#!/usr/bin/env python3
"""Measures the resident memory and time of exporting a full-size checkpoint.

    export_memory.py FOLDER [--dtype q4|fp32]

Writes a random LFM2-8B-A1B checkpoint (17 GB) under FOLDER, exports it (5.4 GB in q4, 33 GB in fp32) and deletes both.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from server.export import Dtype, export_checkpoint
from server.export.config import Lfm2Config
from server.export.shapes import SHAPES
from server.export.tensors import tensor_shapes

SHAPE = SHAPES["lfm2-8b-a1b"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the checkpoint and the export")
    parser.add_argument("--dtype", choices=("q4", "fp32"), default="q4")
    arguments = parser.parse_args()
    checkpoint, out = arguments.folder / "checkpoint", arguments.folder / "exported"
    try:
        in_its_own_process(write_checkpoint, checkpoint)
        in_its_own_process(export, checkpoint, out, arguments.dtype)
        print(f"exported {size(checkpoint):.1f} GB of bfloat16 to {size(out):.1f} GB of {arguments.dtype}")
    finally:
        for path in (checkpoint, out):
            shutil.rmtree(path, ignore_errors=True)


def in_its_own_process(task: Callable[..., None], *arguments: Any) -> None:
    """Run `task` in a fresh process, because peak memory never falls.

    A forked child would inherit it.
    """
    process = multiprocessing.get_context("spawn").Process(target=task, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{task.__name__} failed")


def export(checkpoint: Path, out: Path, dtype: Dtype) -> None:
    """Export the checkpoint, and print the time and peak memory."""
    started = time.perf_counter()
    export_checkpoint(checkpoint, out, dtype)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{seconds:.0f} s, peak {peak / 1e9:.2f} GB resident")


def write_checkpoint(folder: Path) -> None:
    """Write one shard per layer, with weights that repeat."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(SHAPE))
    (folder / "tokenizer.json").write_text("{}")
    numbers = (np.random.default_rng(0).standard_normal(1 << 24, np.float32) / 45).astype(ml_dtypes.bfloat16)
    weight_map = {}
    shapes = tensor_shapes(Lfm2Config.parse(SHAPE))
    for layer, names in groupby(shapes, key=lambda name: ".".join(name.split(".")[:3])):
        file = f"{layer}.safetensors"
        tensors = {name: np.resize(numbers, shapes[name]) for name in names}
        save_file(tensors, folder / file)
        weight_map |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def size(folder: Path) -> float:
    """Return the size of all files in GB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


if __name__ == "__main__":
    main()

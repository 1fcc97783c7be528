"""Random operands for the native kernels, in onnxruntime and with sanitizers."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.soak.report import Report
from tests.kernels.sanitizers import SANITIZERS, build_fuzz, fuzz


async def run(report: Report, folder: Path, seconds: float) -> None:
    """Spend a third of the time in onnxruntime, and a third on each sanitizer."""
    if shutil.which("cc") is None:
        report.say("skipped: there is no C compiler")
        return
    share, seed = max(1, round(seconds / (1 + len(SANITIZERS)))), random.randrange(1 << 31)
    command = [sys.executable, "-m", "tests.kernels.fuzz_operators", str(share), str(seed)]
    results = {"operators": await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)}
    for sanitizer in SANITIZERS:
        program = await asyncio.to_thread(build_fuzz, sanitizer, folder)
        results[f"{sanitizer} sanitizer"] = await asyncio.to_thread(fuzz, program, share, seed)
    for name, result in results.items():
        report.check(result.returncode == 0, f"{name}, {share} s from seed {seed}: {result.stdout.strip()}")
        if result.returncode:
            report.say(result.stderr)

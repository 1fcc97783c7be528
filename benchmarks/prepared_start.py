"""Measures how soon a prepared model is served, and the memory of a second server.

    python -m benchmarks.prepared_start MODEL_FOLDER [--rounds 3] [--prepared-folder FOLDER]

Compares the time until `lfm-serve serve` is ready with that of a process that only creates an onnxruntime session. The
two take turns. Quote the ratio of medians. Memory is the anonymous memory of each server once both are ready.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.processes import anonymous_bytes, free_port
from server.runtime.graph import Precision, load
from server.runtime.machine.cpu import available_threads
from server.runtime.model_folder import open_model_folder
from server.runtime.native.choice import Kernels, choose_kernels
from server.runtime.native.library import load_library
from server.runtime.prepared_copy import lookup

POLL_SECONDS = 0.1  # the server answers polls while it loads, so they slow it down
RAW = """
import sys, time
start = time.perf_counter()
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
if len(sys.argv) > 3:
    options.register_custom_ops_library(sys.argv[3])
else:
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print(time.perf_counter() - start)
"""


def raw_seconds(copy: Path, native: bool) -> float:
    """Return how long a process takes to create a session and exit, in seconds."""
    start = time.perf_counter()
    command = [sys.executable, "-c", RAW, str(copy / lookup.GRAPH), str(available_threads())]
    library = [str(load_library().path)] if native else []
    subprocess.run([*command, *library], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


class Server:
    """A ready server.

    seconds: the time it took to start.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        port, start = free_port(), time.perf_counter()
        command = [sys.executable, "-m", "server", "serve", "--model", str(folder), "--port", str(port)]
        command += ["--prepared-folder", str(root)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while self._process.poll() is None and not self._is_ready(port):
            time.sleep(POLL_SECONDS)
        if self._process.poll() is not None:
            raise SystemExit(f"The server ended with status {self._process.returncode}.")
        self.seconds = time.perf_counter() - start

    def anonymous_gigabytes(self) -> float:
        return anonymous_bytes(self._process.pid) / 1e9

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    @staticmethod
    def _is_ready(port: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a model with a prepared copy")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, in turns (default: 3)")
    parser.add_argument(
        "--prepared-folder", type=Path, default=lookup.default_folder(), help="folder of prepared copies"
    )
    args = parser.parse_args()
    native = choose_kernels(Kernels.AUTO, Precision.FAST).native
    graph = load(open_model_folder(args.model).graph, Precision.FAST, native)
    copy = args.prepared_folder / lookup.key(graph)
    if not copy.exists():
        raise SystemExit(f"{args.model} has no prepared copy in {args.prepared_folder}.")
    raw_seconds(copy, graph.native)  # brings the files into memory for both
    raw, served = [], []
    for _ in range(args.rounds):
        raw.append(raw_seconds(copy, graph.native))
        server = Server(args.model, args.prepared_folder)
        served.append(server.seconds)
        server.stop()
        print(f"raw session {raw[-1]:5.2f} s   server ready {served[-1]:5.2f} s", flush=True)
    ready, session = statistics.median(served), statistics.median(raw)
    print(f"ready / raw = {ready:.2f} s / {session:.2f} s = {ready / session:.2f} (medians of {args.rounds})")
    servers = [Server(args.model, args.prepared_folder) for _ in range(2)]
    first, second = (server.anonymous_gigabytes() for server in servers)
    for server in servers:
        server.stop()
    print(f"anonymous memory: {first:.2f} GB in the first server, {second:.2f} GB in the second")


if __name__ == "__main__":
    main()

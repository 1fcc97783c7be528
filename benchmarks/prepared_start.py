"""How soon a prepared model is served, against the bare session on the same files; what a second server takes.

    python -m benchmarks.prepared_start MODEL_FOLDER [--rounds 3] [--prepared-folder FOLDER]

Raw: a new process that imports onnxruntime and creates one session on the prepared copy. Server: `lfm-serve serve`
until /ready says 200. They take turns; the ratio of medians is the figure to quote. Memory: the anonymous memory of the
first and of a second server on the same copy, at rest.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.machine import anonymous_bytes
from server.runtime import prepared
from server.runtime.cpu import available_threads
from server.runtime.graph import Precision, load
from server.runtime.model_folder import open_model_folder

POLL_SECONDS = 0.02
RAW = """
import sys, time
start = time.perf_counter()
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print(time.perf_counter() - start)
"""


def raw_seconds(copy: Path) -> float:
    """From the start of the interpreter to the created session."""
    start = time.perf_counter()
    command = [sys.executable, "-c", RAW, str(copy / prepared.GRAPH), str(available_threads())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


class Server:
    """A started server; `seconds` is how long it took to be ready."""

    def __init__(self, folder: Path, root: Path, port: int) -> None:
        start = time.perf_counter()
        command = [sys.executable, "-m", "server", "serve", "--model", str(folder), "--port", str(port)]
        command += ["--prepared-folder", str(root)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while self._process.poll() is None and not self._is_ready(port):
            time.sleep(POLL_SECONDS)
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
    parser.add_argument("model", type=Path, help="a model folder that has been prepared")
    parser.add_argument("--rounds", type=int, default=3, help="times each is measured, in turns (default 3)")
    parser.add_argument("--prepared-folder", type=Path, default=prepared.default_folder())
    args = parser.parse_args()
    graph = load(open_model_folder(args.model).graph, Precision.FAST)
    copy = args.prepared_folder / prepared.key(graph)
    if not copy.exists():
        raise SystemExit(f"{args.model} is not prepared in {args.prepared_folder}.")
    raw_seconds(copy)  # so that both find the files in memory
    raws, serveds = [], []
    for _ in range(args.rounds):
        raws.append(raw_seconds(copy))
        server = Server(args.model, args.prepared_folder, 8411)
        serveds.append(server.seconds)
        server.stop()
        print(f"raw session {raws[-1]:5.2f} s   server ready {serveds[-1]:5.2f} s", flush=True)
    print(f"ready / raw = {statistics.median(serveds) / statistics.median(raws):.2f} (medians of {args.rounds})")
    servers = [Server(args.model, args.prepared_folder, port) for port in (8411, 8412)]
    first, second = (server.anonymous_gigabytes() for server in servers)
    for server in servers:
        server.stop()
    print(f"anonymous memory: {first:.2f} GB in the first server, {second:.2f} GB in the second")


if __name__ == "__main__":
    main()

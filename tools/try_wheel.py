"""Installs a wheel, starts its server and requests an answer.

    python3.12 tools/try_wheel.py dist/lfm_serve-0.1.0-....whl [--uv UV]

The environment gets the Python that runs this script.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from pathlib import Path

START_SECONDS = 120
ROUTES = ("/health", "/v1/models", "/docs", "/openapi.json")


def install(wheel: Path, environment: Path, uv: str | None) -> None:
    """Create `environment` and install the wheel and its dependencies into it."""
    python = environment / "bin" / "python"
    if uv:
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
        command = [uv, "pip", "install", "--quiet", "--python", python, wheel]
    else:
        venv.create(environment, with_pip=True)
        command = [
            python,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--quiet",
            "--quiet",
            "install",
            "--no-compile",
            wheel,
        ]
    subprocess.run(command, check=True)


def size(folder: Path) -> int:
    """Return the total size of all files below `folder`, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def fetch(url: str, body: object = None) -> bytes:
    """Send a request, and return the response's body.

    body: value to POST as JSON; None to send a GET request.

    Raises OSError if no response arrives or its status is an error.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        content: bytes = response.read()
        return content


def wait_until_ready(server: subprocess.Popen[bytes], url: str) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        if server.poll() is not None:
            raise SystemExit(f"the server has exited with {server.returncode}")
        try:
            fetch(f"{url}/ready")
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"the server was not ready after {START_SECONDS} seconds")


def try_server(program: Path, folder: Path) -> str:
    """Serve the built-in model and return its answer to a question."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {"HOME": str(folder), "PATH": os.defpath}  # as a new user
    command = [program, "serve", "--port", str(port), "--log-level", "warning"]
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_until_ready(server, url)
        for route in ROUTES:
            fetch(url + route)
        question = {"messages": [{"role": "user", "content": "What are you?"}], "temperature": 0}
        answer: str = json.loads(fetch(f"{url}/v1/chat/completions", question))["choices"][0]["message"]["content"]
    finally:
        server.terminate()
        code = server.wait(60)
    if code:
        raise SystemExit(f"the server has ended with {code}")
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description="Install a wheel into an empty environment and try its server.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--uv", help="the uv program that installs the wheel (default: pip installs it)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, environment = Path(name), Path(name, "environment")
        start = time.monotonic()
        install(arguments.wheel.resolve(), environment, arguments.uv)
        seconds, mebibytes = time.monotonic() - start, size(environment) / 2**20
        program = environment / "bin" / "lfm-serve"
        version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
        if version.split()[1].rstrip(",") != arguments.wheel.name.split("-")[1]:
            raise SystemExit(f"{arguments.wheel.name} says that it is {version}")
        installer = "uv" if arguments.uv else "pip"
        print(f"Python {sys.version.split()[0]}, {installer}: {seconds:.0f} s, {mebibytes:.0f} MiB installed")
        print(version.splitlines()[0])
        print(f"What are you? {try_server(program, folder)}")


if __name__ == "__main__":
    main()

"""The container without an engine to run it: its build steps, its health check and the compose file."""

from __future__ import annotations

import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Instruction:
    keyword: str
    value: str


def stages() -> list[list[Instruction]]:
    """Return the Dockerfile's instructions by stage, without those before the first FROM."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[Instruction]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        keyword, _, value = line.partition(" ")
        if keyword == "FROM":
            found.append([])
        if found:
            found[-1].append(Instruction(keyword, value.strip()))
    return found


def values(keyword: str) -> list[str]:
    """Return the values of `keyword` in the last stage, which is the image."""
    return [instruction.value for instruction in stages()[-1] if instruction.keyword == keyword]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for value in values("ENV") for pair in shlex.split(value))


def run(*command: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Run the builder stage's steps in a fresh folder and environment; return the folder that they install into."""
    if "CONTAINER_BUILD" not in os.environ:
        pytest.skip("CONTAINER_BUILD is not set (.ci/run sets it): installs packages from the index for a minute")
    source, target = tmp_path / "src", tmp_path / "opt"
    source.mkdir()
    (tmp_path / "bin").mkdir()
    scripts = {"python": f'exec {Path(sys.base_prefix) / "bin" / "python3"} "$@"'}
    if os.geteuid():  # only root may install packages; the machine's own compiler is used
        scripts["apt-get"] = ":"
    for name, line in scripts.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    variables = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": os.environ.get("HOME", str(tmp_path))}
    variables |= {key: value for key, value in os.environ.items() if key.startswith("PIP_") or key.endswith("_proxy")}
    for step in stages()[0]:
        if step.keyword == "COPY":
            *sources, destination = shlex.split(step.value)
            for name in sources:
                copy_into(source, name, destination)
        elif step.keyword == "ENV":
            variables |= dict(pair.split("=", 1) for pair in shlex.split(step.value))
        elif step.keyword == "RUN":
            command = step.value.replace("/opt/", f"{target}/")
            done = run("sh", "-ec", command, cwd=source, env=variables)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return target / "lfm-serve"


def copy_into(folder: Path, name: str, destination: str) -> None:
    """Copy as Docker does: the contents of a folder, or a file."""
    place = folder / destination
    if (ROOT / name).is_dir():
        shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place)


def test_the_builders_steps_install_a_command_that_runs(built: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    result = run(str(built / "bin" / "lfm-serve"), "serve", "--help", cwd=home, env={"HOME": str(home)})
    assert result.returncode == 0, result.stderr
    installed = list((built / "lib").glob("python*/site-packages/server"))
    assert len(installed) == 1
    assert list((installed[0] / "demo").rglob("*.onnx"))
    assert (installed[0] / "runtime" / "native" / "lfm_kernels.so").exists()
    traces = "from opentelemetry.exporter.otlp.proto.http import trace_exporter"
    assert run(str(built / "bin" / "python"), "-c", traces, cwd=home, env={}).returncode == 0


def test_the_build_context_holds_the_sources_and_nothing_else() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for step in stages()[0] if step.keyword == "COPY" for name in shlex.split(step.value)[:-1]}
    assert copied == allowed


def test_the_image_runs_as_a_user_that_is_not_root_and_writes_only_below_tmp_and_the_volume() -> None:
    assert all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in values("USER"))
    assert len(values("USER")) == 1
    assert values("VOLUME") == [environment()["HF_HOME"]] == ["/models"]
    assert environment()["HOME"] == "/tmp"
    assert environment()["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_command_is_started_without_a_shell_so_that_it_gets_the_signals() -> None:
    assert [json.loads(value) for value in values("ENTRYPOINT")] == [["lfm-serve", "serve"]]


class Answers(http.server.BaseHTTPRequestHandler):
    """200 at /health, 404 elsewhere."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        yield listening.server_port
        listening.shutdown()
        thread.join()


def health_check(port: int, **variables: str) -> int:
    _, command = values("HEALTHCHECK")[0].split("CMD", 1)
    program, *arguments = json.loads(command)
    assert program == "python"
    return run(sys.executable, *arguments, cwd=ROOT, env={"LFM_PORT": str(port), **variables}).returncode


def test_the_health_check_passes_while_the_server_answers_on_its_port(port: int) -> None:
    assert health_check(port) == 0


def test_the_health_check_uses_no_proxy(port: int) -> None:
    assert health_check(port, http_proxy="http://127.0.0.1:9") == 0


def test_the_health_check_fails_if_nothing_listens() -> None:
    assert health_check(9) != 0


def test_docker_compose_reads_the_compose_file() -> None:
    if (program := shutil.which("docker-compose")) is None:
        pytest.skip("docker-compose is not installed")
    result = run(program, "config", cwd=ROOT, env=dict(os.environ))
    assert result.returncode == 0, result.stderr
    assert "read_only: true" in result.stdout
    assert "models:/models" in result.stdout

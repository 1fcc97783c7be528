#!/bin/sh
# Checks the server against its own OpenAPI document: schemathesis sends valid and invalid requests for three minutes.
# A 5xx is a failure, and so is a response whose status, headers or body the document does not describe.
#
#   tools/check_openapi.sh [SECONDS]     in .venv, or in the environment that VENV names
set -eu
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
make --silent "VENV=$venv" "$venv/.dev"
bin=$(cd "$venv/bin" && pwd)
port=$("$bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$bin/lfm-serve" serve --port "$port" --max-seqs 16 --max-model-len 512 >/dev/null 2>&1 &
server=$!
trap 'kill "$server"' EXIT
until "$bin/python" -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/ready')" 2>/dev/null; do
    kill -0 "$server"
    sleep 0.2
done
cd "$(mktemp -d)"  # schemathesis leaves its reports where it runs
"$bin/schemathesis" run "http://127.0.0.1:$port/openapi.json" --max-time "${1:-180}" --workers 4 \
    --continue-on-failure \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance

#!/bin/sh
# Holds the server to its own OpenAPI document: schemathesis sends what it allows and what it does not, for three
# minutes. No answer may be a 5xx, or of a status or shape that the document does not tell of.
#
#   pip install schemathesis; tools/check_openapi.sh [SECONDS]
set -eu
cd "$(dirname "$0")/.."
command -v schemathesis >/dev/null || { echo "skipped: schemathesis is not installed"; exit 0; }
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
python3 -m server serve --port "$port" --max-seqs 16 --max-model-len 512 >/dev/null 2>&1 &
server=$!
trap 'kill "$server"' EXIT
until python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/ready')" 2>/dev/null; do
    kill -0 "$server"
    sleep 0.2
done
cd "$(mktemp -d)"  # it leaves what it found where it runs
schemathesis run "http://127.0.0.1:$port/openapi.json" --max-time "${1:-180}" --workers 4 --continue-on-failure \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance

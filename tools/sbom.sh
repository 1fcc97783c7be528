#!/bin/sh
# Writes the software bill of materials of an installation from the lock file, in CycloneDX's JSON.
#
#   tools/sbom.sh OUTPUT     with the packages of requirements/release.txt installed
set -eu
exec "${PYTHON:-python}" -m cyclonedx_py requirements "$(dirname "$0")/../requirements/runtime.txt" \
    --mc-type application --of JSON --output-file "$1"

#!/bin/bash
# VNN-COMP calls this once: install_tool.sh VERSION
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "expected version v1, got '${1:-}'" >&2; exit 1; }
cd "$(dirname "$0")/../.."
python3 -m venv .venv
.venv/bin/pip install --constraint constraints.txt ".[all]"

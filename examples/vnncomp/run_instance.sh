#!/bin/bash
# VNN-COMP calls this for each instance: run_instance.sh VERSION CATEGORY ONNX VNNLIB RESULT TIMEOUT
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "expected version v1, got '${1:-}'" >&2; exit 1; }
onnx=$3 vnnlib=$4 result=$5 timeout=$6
[ -e "$onnx" ] || onnx=$onnx.gz
[ -e "$vnnlib" ] || vnnlib=$vnnlib.gz
bounds=$(dirname "$0")/../../.venv/bin/bounds
if ! "$bounds" verify "$vnnlib" --network "$onnx" --timeout "$timeout" --result "$result" \
    > /dev/null; then
    echo error > "$result"
fi

#!/bin/bash
# VNN-COMP calls this before each instance: prepare_instance.sh VERSION CATEGORY ONNX VNNLIB
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "expected version v1, got '${1:-}'" >&2; exit 1; }
for file in "$3" "$4"; do
    [ -e "$file" ] || [ -e "$file.gz" ] || { echo "no file $file" >&2; exit 1; }
done

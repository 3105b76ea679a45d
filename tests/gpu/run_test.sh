#!/usr/bin/env bash
# On a machine without a GPU, run.sh says so, runs nothing and leaves with exit code 2.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
  echo "not run: this machine has a GPU"
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
status=0
output=$("$here/run.sh" "$folder/results" 2>&1) || status=$?
[ "$status" -eq 2 ] || { echo "exit code $status, expected 2: $output"; exit 1; }
grep -q 'lacks a GPU with a driver' <<<"$output" || { echo "found: $output"; exit 1; }

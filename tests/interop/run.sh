#!/usr/bin/env bash
# Compares the program with transformers, tokenizers and TensorBoard. Builds it if it is not there, and installs what it is compared with into
# build/.venv-interop once.
# usage: tests/interop/run.sh [WITAN_PROGRAM]
set -euo pipefail
cd "$(dirname "$0")/../.."

witan=${1:-build/release/bin/witan}
if [ $# -eq 0 ]; then
  cmake --preset program --log-level=WARNING
  cmake --build --preset program
fi
[ -x "$witan" ] || { echo "run.sh: no program $witan" >&2; exit 1; }

venv=build/.venv-interop
requirements=tests/interop/requirements.txt
if ! cmp -s "$requirements" "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$venv/installed.txt"
fi

failed=0
for check in transformers tokenizers tensorboard; do
  "$venv/bin/python" "tests/interop/check_$check.py" --witan "$witan" || failed=1
done
exit $failed

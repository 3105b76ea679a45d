#!/usr/bin/env bash
# Is every source file as clang-format 14 would write it? usage: .ci/format.sh [--fix]
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t files < <(git ls-files -co --exclude-standard -- '*.h' '*.cc' '*.cu')
if [ "${1:-}" = --fix ]; then
  clang-format-14 -i "${files[@]}"
else
  clang-format-14 --dry-run --Werror "${files[@]}"
  echo "${#files[@]} files are formatted"
fi

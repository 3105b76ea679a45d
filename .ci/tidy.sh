#!/usr/bin/env bash
# clang-tidy 14 over the sources (not the tests), each file once. usage: .ci/tidy.sh [FILE-REGEX]
set -euo pipefail
cd "$(dirname "$0")/.."

# A build folder of its own: without tests, so that its compilation database holds the sources only, and without OpenMP,
# whose header comes with g++.
cmake -S . -B build/tidy -G Ninja -DCMAKE_BUILD_TYPE=Release -DWITAN_TESTS=OFF -DWITAN_OPENMP=OFF --log-level=WARNING
cmake --build build/tidy --target witan_schema witan_protos # for the generated headers

# Kernel files stand in the database once per CPU level; one of them is enough. clang 14 does not know the CPU levels that
# cpu_isa.cc asks for by name.
mkdir -p build/tidy/database
jq --arg root "$PWD/" '[.[] | select((.file | startswith($root)) and (.file | contains("/build/") | not)
    and (.file | endswith(".cu") | not) and (.file | endswith("/cpu_isa.cc") | not))] | unique_by(.file)' \
  build/tidy/compile_commands.json >build/tidy/database/compile_commands.json

set +e
run-clang-tidy-14 -p build/tidy/database -quiet -j "$(nproc)" "${1:-.*}" 2>build/tidy/stderr.log |
  sed -e 's/\x1b\[[0-9;]*m//g' -e '/^clang-tidy-14 /d' -e '/^$/d'
exit "${PIPESTATUS[0]}"

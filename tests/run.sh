#!/usr/bin/env bash
# Installs what the tests need, builds everything (Release) and runs the default tests. Not among them are the tests
# labelled shared (need ../shared), gpu (need a GPU), slow and bench; .ci/run has those it can run.
# usage: tests/run.sh [ctest options, e.g. -R moe]     exit code 0: all passed
set -uo pipefail
cd "$(dirname "$0")/.."

report=$PWD/build/release/tests.xml
rm -f "$report"
launch/install_deps.sh test || exit 1
cmake --preset release --log-level=WARNING || exit 1
cmake --build --preset release || exit 1

ctest --preset release -j "$(nproc)" --no-tests=error --output-junit "$report" "$@"
code=$?
tests/support/count_tests.py "$report" || code=1
exit $code

#!/usr/bin/env bash
# docs/config_reference.md is what the schema says. usage: config_reference_test.sh PRINT_PROGRAM DOCUMENT
set -euo pipefail
"$1" | diff -u "$2" - && exit 0
echo "$2 is out of date; write it again:  $1 > $2"
exit 1

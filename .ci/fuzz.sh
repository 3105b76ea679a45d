#!/usr/bin/env bash
# Fuzzes the reader of safetensors files with libFuzzer, AddressSanitizer and UBSan: always the same number of runs from the same
# seeds (tests/checkpoint/make_fuzz_corpus.py). A file that breaks it is left in build/fuzz.
# usage: .ci/fuzz.sh [RUNS]
set -euo pipefail
cd "$(dirname "$0")/.."

runs=${1:-200000}
rm -rf build/fuzz
mkdir -p build/fuzz/found
tests/checkpoint/make_fuzz_corpus.py build/fuzz/seeds
clang++-14 -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -I. -o build/fuzz/safetensors_fuzz \
  tests/checkpoint/safetensors_fuzz.cc launch/checkpoint/safetensors_reader.cc launch/checkpoint/safetensors_dtype.cc \
  launch/checkpoint/strict_json.cc core/base/error.cc
build/fuzz/safetensors_fuzz -runs="$runs" -seed=1 -max_len=2048 -timeout=10 -print_final_stats=1 -verbosity=0 \
  -artifact_prefix=build/fuzz/ build/fuzz/found build/fuzz/seeds

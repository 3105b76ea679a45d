#!/usr/bin/env bash
# Objects compiled for a CPU level define no weak symbol outside the level's namespace. The linker keeps one copy of each
# weak symbol in the program; if it kept the AVX-512 one, a CPU without AVX-512 would execute it and die with SIGILL.
# usage: isa_symbols_test.sh CXX OBJECT...
set -euo pipefail
cxx=$1; shift

# Weak code or data (W, V, u) whose mangled name has no witan::cpu::LEVEL; DW.ref.* are pointers, not code.
shared_symbols() {
  nm --defined-only "$1" | awk '$2 ~ /^[WVu]$/ && $3 !~ /5witan3cpu(8baseline|4avx2|6avx512|11avx512_bf16|3amx)/ && $3 !~ /^DW\.ref\./ { print $3 }' | c++filt
}

# The test can fail: an inline function out of line is such a symbol.
planted=$(mktemp --suffix=.o)
trap 'rm -f "$planted"' EXIT
echo 'inline int planted() { return 1; } int (*use)() = planted;' | "$cxx" -x c++ -c - -o "$planted"
[ "$(shared_symbols "$planted")" = 'planted()' ] || { echo "the planted symbol was not found"; exit 1; }

code=0
for object in "$@"; do
  symbols=$(shared_symbols "$object")
  if [ -n "$symbols" ]; then
    printf '%s:\n%s\n' "$object" "$symbols"
    code=1
  fi
done
echo "$# objects checked"
[ $# -gt 0 ] && exit $code

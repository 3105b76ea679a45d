#!/usr/bin/env python3
"""Every .cu file, and every header of ours that one includes, keeps to the dialect that nvcc and g++ both take.

usage: dialect_test.py SOURCE_DIR
"""
import pathlib
import re
import sys

FORBIDDEN = {
    r"<<<|>>>\s*\(": "a launch with <<< >>>: use launch()",
    r"\b__constant__\b|\b__managed__\b|\b__cluster_dims__\b": "a memory space or attribute outside the dialect",
    r"\bextern\s+__shared__": "extern __shared__: use dynamic_shared<T>()",
    r"\b__shared__\b": "__shared__: use WITAN_SHARED(T, name)",
    r"#\s*pragma\s+unroll": "#pragma unroll: use WITAN_UNROLL",
    r"cooperative_groups|\bcub::|\bthrust::|nvcuda::|<mma\.h>": "cooperative groups, cub, thrust or wmma",
    r"\basm\s*(volatile\s*)?\(": "PTX: it belongs into device_intrinsics.h beside its plain twin",
    r"cudaMallocManaged": "managed memory",
    r"\bcudaLaunchKernel": "cudaLaunchKernel: use launch()",
    r"#\s*include\s*[<\"](spdlog|fmt|google/protobuf|mpi\.h|CLI|nlohmann)|\.pb\.h\"": "a header that nvcc cannot or may not see",
    r"\[[&=\w, ]*\]\s*__device__": "a lambda as a kernel argument",
    r"\batomicAdd\s*\(": "atomicAdd: its order of summation changes the bits; if it adds integers, allow it here",
}
# The files that define the dialect say the forbidden words.
DEFINES = {"core/base/cuda/dialect.h": {r"\bextern\s+__shared__", r"\b__shared__\b"},
           "core/base/cuda/launch.h": {r"\bcudaLaunchKernel"},
           # Counts of choices, and of keys: integers.
           "core/ops/cuda/topk.cu": {r"\batomicAdd\s*\("},
           "core/ops/cuda/expert_choice.cu": {r"\batomicAdd\s*\("},
           "core/base/cuda/device_intrinsics.h": {r"\basm\s*(volatile\s*)?\("}}


def without_comments(text):
    blank = lambda match: re.sub(r"[^\n]", " ", match.group())
    return re.sub(r"//[^\n]*|/\*.*?\*/", blank, text, flags=re.S)


def reachable(root, start):
    """start and everything it includes from the source tree."""
    seen, todo = set(), [start]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in re.findall(r'#\s*include\s*"([^"]+)"', (root / path).read_text()):
            if (root / name).exists():
                todo.append(name)
    return seen


def findings(text, allowed=()):
    clean = without_comments(text)
    for pattern, why in FORBIDDEN.items():
        if pattern in allowed:
            continue
        for match in re.finditer(pattern, clean):
            yield clean.count("\n", 0, match.start()) + 1, why


def main():
    root = pathlib.Path(sys.argv[1])
    # The test of the test: a kernel in no dialect of ours.
    bad = 'kernel<<<1, 1>>>(x);\n__shared__ float s[1];\n#include "spdlog/spdlog.h"\n'
    assert len({line for line, _ in findings(bad)}) == 3, "the patterns no longer find what they should"

    starts = [str(p.relative_to(root)) for top in ("core", "parallel", "optim", "launch", "tests")
              for p in (root / top).rglob("*.cu")]
    assert starts, "no .cu file found"
    files = sorted(set().union(*(reachable(root, start) for start in starts)))
    wrong = 0
    for name in files:
        for line, why in findings((root / name).read_text(), DEFINES.get(name, ())):
            print(f"{name}:{line}: {why}")
            wrong += 1
    print(f"{len(starts)} .cu files, {len(files)} files with what they include, {wrong} findings")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env bash
# Builds the CUDA backend with nvcc (no GPU or driver needed) and checks what can be checked without one: that it links,
# that a machine without a device gets a clear answer, and that no kernel spills registers (table: build/cuda/ptxas_table.md).
# Where there is a GPU, the kernels are also executed on it.
# usage: .ci/cuda_build.sh     exit 77: not run, there is no nvcc
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v nvcc >/dev/null && [ ! -x "${CUDACXX:-}" ]; then
  echo "cuda_build: not run, no nvcc on the PATH and CUDACXX is not set"
  exit 77
fi
mkdir -p build
if ! cmake --preset cuda >build/cuda_configure.log 2>&1; then
  # A toolkit without cuBLAS and NCCL: the message names the script that brings them.
  grep -q install_cuda_libs.sh build/cuda_configure.log || { cat build/cuda_configure.log; exit 1; }
  launch/install_cuda_libs.sh
  cmake --preset cuda
fi
cmake --build build/cuda --target witan cuda_no_device_test cuda_ops_gpu_test cuda_trainer_gpu_test gpu_bench

ctest --test-dir build/cuda --output-on-failure --no-tests=error -R '^(CudaNoDevice\.|cuda_dialect)'
ctest --test-dir build/cuda --output-on-failure --no-tests=error -L '^gpu$'

# No kernel may keep its variables in memory for want of registers.
.ci/ptxas_table.py build/cuda >build/cuda/ptxas_table.md

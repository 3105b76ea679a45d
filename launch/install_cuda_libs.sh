#!/usr/bin/env bash
# Brings cuBLAS and NCCL, headers and libraries, as NVIDIA's wheels into a Python environment where the build looks for
# them: for machines whose CUDA toolkit lacks them. Needs a network, and nvcc on the PATH, which decides the version.
# usage: launch/install_cuda_libs.sh [DIR]     DIR: build/cuda_libs unless given; then configure with -DWITAN_CUDA_LIBS=DIR
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:-build/cuda_libs}

release=$("${CUDACXX:-nvcc}" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\)\..*/\1/p') || release=
case $release in
  12) wheels=(nvidia-cublas-cu12 nvidia-nccl-cu12) ;;
  13) wheels=('nvidia-cublas==13.1.*' nvidia-nccl-cu13) ;;
  '') echo "install_cuda_libs.sh: no nvcc on the PATH; install a CUDA toolkit, 12 or 13, first" >&2; exit 1 ;;
  *) echo "install_cuda_libs.sh: nvcc is of CUDA $release; 12 or 13 would be right" >&2; exit 1 ;;
esac

[ -x "$dir/bin/pip" ] || python3 -m venv "$dir" || {
  echo "install_cuda_libs.sh: python3 could not make an environment in $dir; on Debian it needs python3-venv" >&2
  exit 1
}
"$dir/bin/pip" install --quiet --disable-pip-version-check --no-deps "${wheels[@]}" || {
  echo "install_cuda_libs.sh: pip could not install ${wheels[*]}; is there a network?" >&2
  exit 1
}

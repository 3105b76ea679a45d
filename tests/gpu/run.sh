#!/usr/bin/env bash
# Everything that needs a GPU, on a machine that has one: builds the CUDA backend, runs the tests labelled gpu, a small run
# under compute-sanitizer (memcheck and racecheck), `witan verify`, and the benchmarks.
# usage: tests/gpu/run.sh RESULTS      RESULTS: a folder for logs and the table, made if it is not there
# Exit code 0 if everything that ran passed; 2 if the machine lacks something, which is named together with how to get it.
# Last line: N passed, N failed[, N not run].
set -uo pipefail
[ $# -eq 1 ] || { sed -n '4s/^# //p' "$0" >&2; exit 2; }
mkdir -p "$1" || exit 2
results=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."

missing=0
need() { # need TEST-COMMAND WHAT HOW-TO-GET-IT
  if ! eval "$1" >/dev/null 2>&1; then
    echo "gpu: this machine lacks $2: $3" >&2
    missing=1
  fi
}
need 'command -v nvidia-smi && nvidia-smi -L | grep -q GPU' "a GPU with a driver" "nvidia-smi -L must list one"
need 'command -v nvcc || [ -x "${CUDACXX:-}" ]' "nvcc 12.5 or newer" "install a CUDA toolkit and put its bin on the PATH, or set CUDACXX"
need 'command -v cmake && command -v ninja && command -v g++' "cmake, ninja or g++" "run launch/install_deps.sh"
need 'command -v mpirun' "Open MPI" "run launch/install_deps.sh"
need 'command -v protoc' "Protobuf" "run launch/install_deps.sh"
[ $missing -eq 0 ] || exit 2

passed=0 failed=0 skipped=0
stage() { # stage NAME COMMAND...: output to RESULTS/NAME.log
  local name=$1 start=$SECONDS status
  shift
  "$@" >"$results/$name.log" 2>&1
  status=$?
  case $status in
    0) passed=$((passed + 1)); echo "gpu: $name passed in $((SECONDS - start)) s" ;;
    77) skipped=$((skipped + 1)); echo "gpu: $name not run: $(tail -n 1 "$results/$name.log")" ;;
    *) failed=$((failed + 1)); echo "gpu: $name FAILED (exit code $status); the end of $results/$name.log:"; tail -n 20 "$results/$name.log" ;;
  esac
  return $status
}

{
  date -u
  git rev-parse HEAD 2>/dev/null
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
  "${CUDACXX:-nvcc}" --version | tail -n 2
} >"$results/machine.txt" 2>&1

build() {
  if ! cmake --preset cuda; then
    launch/install_cuda_libs.sh && cmake --preset cuda || return 1
  fi
  cmake --build build/cuda --target witan cuda_ops_gpu_test cuda_trainer_gpu_test gpu_bench
}
# compute-sanitizer TOOL over the tests of a few kernels with shared memory: the rest would take an hour.
sanitize() {
  command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer on the PATH; it comes with the CUDA toolkit"; return 77; }
  compute-sanitizer --tool "$1" --error-exitcode 1 build/cuda/tests/cuda/cuda_ops_gpu_test \
    --gtest_filter='AttentionCuda.*:IntrinsicsCuda.*:AttentionCachedCuda/0.*:RmsnormCuda/0.*:CrossEntropyCuda/0.*:TopkCuda/0.*:ZeroExpertsCuda/0.*:RouteCuda/0.*'
}
table() { build/cuda/tests/gpu/gpu_bench | tee "$results/table.md"; return "${PIPESTATUS[0]}"; }

# The program's own figures: its standard sizes, and one layer of a large model.
bench() {
  build/cuda/launch/witan bench --device cuda --precision bf16 --json "$results/bench.json" &&
    build/cuda/launch/witan bench gemm layer --config configs/presets/mixtral_8x7b.textproto --set model.layers=1 \
      --set train.global_batch=2       --device cuda --precision bf16 --json "$results/bench_mixtral.json"
}

if stage build build; then
  stage tests ctest --test-dir build/cuda --output-on-failure --no-tests=error -L '^gpu$'
  stage memcheck sanitize memcheck
  stage racecheck sanitize racecheck
  stage verify build/cuda/launch/witan verify configs/presets/quickstart.textproto --set device=CUDA --json "$results/verify.json"
  stage ops table
  stage bench bench
fi
echo "$passed passed, $failed failed, $skipped not run"
[ $failed -eq 0 ]

// The CPU side of gemm and grouped_gemm: one product on this thread, by either kernel, or split
// over all threads.
#pragma once

#include <cstdint>

#include "core/ops/cpu/gemm_kernels.h"
#include "core/ops/gemm_kernel.h"

namespace witan::ops {

// The task of C (+)= op(A) op(B), C [m, n] summed over k, all matrices contiguous: kNN: A [m, k], B
// [k, n]; kNT: A [m, k], B [n, k]; kTN: A [k, m], B [k, n].
template <class T>
cpu::GemmTask<T> gemm_task(GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k,
                           const T* a, const T* b, T* c, bool accumulate);

// The part of a task that makes rows [row, row + rows) and columns [column, column + columns) of C.
template <class T>
cpu::GemmTask<T> gemm_part(const cpu::GemmTask<T>& task, std::int64_t row, std::int64_t rows,
                           std::int64_t column, std::int64_t columns);

// The register tile of the level in use.
template <class T>
cpu::GemmTiling own_gemm_tiling();

// On this thread (oneDNN: on all threads, unless inside a parallel loop).
template <class T>
void run_gemm(GemmKernel kernel, const cpu::GemmTask<T>& task);

// On all threads.
template <class T>
void run_gemm_parallel(GemmKernel kernel, const cpu::GemmTask<T>& task);

}  // namespace witan::ops

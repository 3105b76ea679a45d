// What a rank on a GPU needs besides what the same rank on a CPU does.
#pragma once

#include <cstdint>

#include "launch/plan/routed_rows.h"

namespace witan {

// Scratch of kernels (core/tensor/cuda_scratch.h) at its high-water mark: cuBLAS's workspace and
// the operands that products and attention round to bfloat16, or the partial sums over rows.
std::int64_t kernel_scratch_bytes(const PlanSubject& subject, const RoutedRows& rows);

// Rows that leave and that come back (parallel/device_token_exchange.cc).
std::int64_t device_exchange_bytes(const PlanSubject& subject, const PlanLayout& layout,
                                   const RoutedRows& rows);

// Pinned host memory of STAGED_MPI (parallel/staged_communicator.cc), where tensors wait on both
// sides of MPI: the gradients of both groups, `elements` of each and this rank's `shares` of them,
// or the rows of a dispatch. 0 with NCCL.
std::int64_t pinned_bytes(const PlanSubject& subject, const PlanLayout& layout,
                          const RoutedRows& rows, const std::int64_t (&elements)[2],
                          const std::int64_t (&shares)[2]);

}  // namespace witan

// What a rank's memory goes to, in bytes: of the host, or with device CUDA of its GPU.
#pragma once

#include <cstdint>

#include "launch/plan/activations.h"

namespace witan {

struct MemoryPlan {
  std::int64_t weights = 0;  // state without gradient included, which a GPU does not hold
  std::int64_t gradients = 0;
  std::int64_t optimizer = 0;    // this rank's share with ZeRO-1
  std::int64_t activations = 0;  // arena high-water marks
  std::int64_t routing = 0;
  std::int64_t scratch = 0;
  std::int64_t exchange = 0;   // buffers of dispatch and combine
  std::int64_t reduction = 0;  // what arrives while gradients are reduced
  std::int64_t rounded = 0;    // CUDA: weights in bfloat16, for products
  std::int64_t kernels = 0;    // CUDA: scratch of kernels, cuBLAS's workspace in it
  std::int64_t pinned = 0;     // CUDA: host memory between GPU and MPI; no part of the total
  std::int64_t total() const {
    return weights + gradients + optimizer + activations + routing + scratch + exchange +
           reduction + rounded + kernels;
  }
};

// `imbalance`: load of the busiest rank over the mean; the plan is that rank's.
MemoryPlan plan_memory(const PlanSubject& subject, const PlanLayout& layout, double imbalance);

// Whether ranks of one node exchange rows through shared memory.
bool uses_windows(const PlanSubject& subject, const PlanLayout& layout);

}  // namespace witan

// Faults found while a kernel runs or when the runtime is called wrongly.
#pragma once

#include <string>

#include "tests/support/cuda_on_cpu/cuda_runtime.h"

namespace witan::cuda_on_cpu {

// Remembers the fault; later calls of the runtime return `status` until take_faults().
void report_fault(cudaError_t status, const std::string& what);

// The status of the first fault that has not been taken, or cudaSuccess.
cudaError_t fault_status();

std::string at(const Site& site);  // " at file:line"

}  // namespace witan::cuda_on_cpu

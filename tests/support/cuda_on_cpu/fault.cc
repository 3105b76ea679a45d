#include "tests/support/cuda_on_cpu/fault.h"

#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/cuda_on_cpu/control.h"

namespace witan::cuda_on_cpu {
namespace {

std::vector<std::string> faults;
std::string last_fault;  // outlives take_faults(): cudaGetErrorString() hands out its characters
cudaError_t status_of_faults = cudaSuccess;

}  // namespace

void report_fault(cudaError_t status, const std::string& what) {
  if (status_of_faults == cudaSuccess) status_of_faults = status;
  faults.push_back(what);
  last_fault = what;
}

cudaError_t fault_status() { return status_of_faults; }

std::vector<std::string> take_faults() {
  status_of_faults = cudaSuccess;
  return std::exchange(faults, {});
}

std::string at(const Site& site) {
  const std::string_view path = site.file_name();
  const std::size_t slash = path.rfind('/');
  return " at " + std::string(slash == path.npos ? path : path.substr(slash + 1)) + ":" +
         std::to_string(site.line());
}

}  // namespace witan::cuda_on_cpu

const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
  }
  return "?";
}

const char* cudaGetErrorString(cudaError_t status) {
  using namespace witan::cuda_on_cpu;
  return status != cudaSuccess && status == fault_status() ? last_fault.c_str()
                                                           : cudaGetErrorName(status);
}

cudaError_t cudaGetLastError() { return witan::cuda_on_cpu::fault_status(); }

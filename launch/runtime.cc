#include "launch/runtime.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>

#include "core/base/cpu_isa.h"
#include "core/base/cuda/stream_cuda.h"
#include "core/base/error.h"
#include "core/base/stream.h"
#include "core/ops/gemm_kernel.h"
#include "core/tensor/cuda_scratch.h"
#ifdef _OPENMP
#include <omp.h>
#endif

namespace witan {
namespace {

using configs::RuntimeConfig;

void set_kernels(const RuntimeConfig& config) {
  if (config.isa() != RuntimeConfig::ISA_AUTO) {
    const auto isa = static_cast<CpuIsa>(static_cast<int>(config.isa()) - 1);
    if (isa > best_cpu_isa()) {
      throw_user_error("runtime.isa: ", name_of(isa), " was asked for; this CPU executes at most ",
                       name_of(best_cpu_isa()));
    }
    force_cpu_isa(isa);
  }
  switch (config.gemm()) {
    case RuntimeConfig::GEMM_OWN: ops::force_gemm_kernel(ops::GemmChoice::kOwn); break;
    case RuntimeConfig::GEMM_ONEDNN: ops::force_gemm_kernel(ops::GemmChoice::kOneDnn); break;
    default: ops::force_gemm_kernel(ops::GemmChoice::kAuto);
  }
}

void set_bf16_kernel(const RuntimeConfig& config) {
  constexpr ops::GemmKernel kKernels[] = {ops::GemmKernel::kOwn, ops::GemmKernel::kBf16Emulated,
                                          ops::GemmKernel::kBf16Dot, ops::GemmKernel::kBf16Amx};
  constexpr CpuBf16 kNeeded[] = {CpuBf16::kNone, CpuBf16::kNone, CpuBf16::kDot, CpuBf16::kAmx};
  const auto choice = static_cast<std::size_t>(config.bf16());
  if (kNeeded[choice] > best_cpu_bf16()) {
    throw_user_error("runtime.bf16: ", name_of(kKernels[choice]),
                     " was asked for; this CPU does not execute it");
  }
  ops::force_bf16_gemm_kernel(kKernels[choice]);
}

#ifdef _OPENMP
int cores_in_mask() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  return sched_getaffinity(0, sizeof mask, &mask) == 0 ? std::max(1, CPU_COUNT(&mask)) : 1;
}
#endif

// A stream, and the scratch memory that the ops on it have taken.
class OwnedStream {
 public:
  explicit OwnedStream(Device device) : stream_(device) {}
  ~OwnedStream() {
    if (stream_.context().device.is_cuda()) cuda::release_scratch(stream_.context());
  }
  OwnedStream(const OwnedStream&) = delete;
  OwnedStream& operator=(const OwnedStream&) = delete;
  Stream get() const { return stream_.get(); }

 private:
  DeviceStream stream_;
};

}  // namespace

void open_stream(Device device, Runtime& runtime) {
  const auto stream = std::make_shared<const OwnedStream>(device);
  runtime.ctx.device = device;
  runtime.ctx.stream = stream->get();
  runtime.stream = stream;
}

Device gpu_of_rank(int local_rank, std::span<const std::int64_t> chosen) {
  const int count = cuda::device_count();
  Device device{DeviceType::kCuda, count > 0 ? local_rank % count : 0};
  if (!chosen.empty() && count > 0) {
    const std::size_t entry = static_cast<std::size_t>(local_rank) % chosen.size();
    const std::int64_t index = chosen[entry];
    if (index >= count) {
      throw_user_error("runtime.device_index[", entry, "]: found ", index,
                       ", but this machine has ", count, count == 1 ? " GPU" : " GPUs",
                       count == 1 ? std::string("; 0 would be right")
                                  : detail::concat("; 0 .. ", count - 1, " would be right"));
    }
    device.index = static_cast<int>(index);
  }
  cuda::use_device(device);
  return device;
}

Runtime start_runtime(const RuntimeConfig& config, const MpiEnvironment& mpi,
                      configs::Device device) {
  Runtime runtime;
  set_kernels(config);
  set_bf16_kernel(config);
  runtime.kernels = ops::describe_kernels();
  runtime.dtype = config.precision() == RuntimeConfig::FLOAT64 ? DType::kFloat64 : DType::kFloat32;
  if (device == configs::CUDA) {
    const auto& chosen = config.device_index();
    open_stream(
        gpu_of_rank(mpi.local_rank(), {chosen.data(), static_cast<std::size_t>(chosen.size())}),
        runtime);
    runtime.kernels = detail::concat("CUDA (GPU ", cuda::bus_id(runtime.ctx.device),
                                     "), routing: ", runtime.kernels);
  }
  runtime.cuda_graphs = config.cuda_graphs();
  if (config.precision() == RuntimeConfig::BF16) {
    runtime.ctx.products = Products::kBfloat16;
    runtime.kernels += ", products in bf16";
    if (device == configs::CPU && ops::bf16_gemm_kernel() == ops::GemmKernel::kBf16Emulated) {
      runtime.warnings.emplace_back(
          "runtime.precision: BF16 is emulated on this CPU: the numerics of bfloat16 at no more "
          "than "
          "the speed of float32");
    }
  }
#ifdef _OPENMP
  const int cores = cores_in_mask();
  if (config.threads() > 0) {
    runtime.threads = static_cast<int>(config.threads());
  } else if (std::getenv("OMP_NUM_THREADS") != nullptr) {
    runtime.threads = omp_get_max_threads();
  } else {
    // Ranks that are bound have a mask of their own; ranks that are not share one.
    const bool shared_mask = cores >= mpi.local_size();
    runtime.threads = shared_mask ? std::max(1, cores / mpi.local_size()) : cores;
  }
  omp_set_num_threads(runtime.threads);
  if (runtime.threads > cores) {
    runtime.warnings.push_back(
        detail::concat("this rank runs ", runtime.threads, " threads but may use ", cores,
                       " cores: start mpirun with --bind-to none, or set runtime.threads"));
  }
#else
  (void)mpi;
#endif
  return runtime;
}

}  // namespace witan

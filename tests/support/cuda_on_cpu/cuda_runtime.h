// A stand-in for the CUDA runtime, found in its place as <cuda_runtime.h> when g++ compiles a .cu
// file: as much of the host API and of the device language as the project uses, executed on the CPU
// with the semantics that the CUDA documentation promises, and no more. docs/cuda.md says what it
// finds and what it cannot show.
#pragma once

#include <math.h>  // the functions of CUDA are in the global namespace

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the names are CUDA's.

// ---- host types

#define CUDART_VERSION 13000

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
};
enum cudaMemcpyKind { cudaMemcpyDefault = 4 };
enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
};
enum cudaDataType_t { CUDA_R_32F = 0, CUDA_R_64F = 1, CUDA_R_16BF = 14 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
inline constexpr unsigned cudaStreamNonBlocking = 1;
inline constexpr unsigned cudaEventDefault = 0;
inline constexpr unsigned cudaEventDisableTiming = 2;

struct cudaDeviceProp {
  char name[256];
  int multiProcessorCount;
  int l2CacheSize;
};

struct CUstream_st;
struct CUevent_st;
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;
struct CUgraph_st;
struct CUgraphExec_st;
using cudaGraph_t = CUgraph_st*;
using cudaGraphExec_t = CUgraphExec_st*;

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1)  // NOLINT: implicit in CUDA
      : x(x_), y(y_), z(z_) {}
};

// ---- host functions

const char* cudaGetErrorName(cudaError_t status);
const char* cudaGetErrorString(cudaError_t status);  // of a fault: what was found
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaDriverGetVersion(int* version);  // 0: no driver
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaMalloc(void** data, std::size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaMallocHost(void** data, std::size_t bytes);
cudaError_t cudaFreeHost(void* data);
cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device);
cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaEventQuery(cudaEvent_t event);  // runs a little of what is enqueued
// Of kernels, products, fills and copies of device memory on one stream. What would end a capture
// on a GPU is a fault: waiting, taking or giving back memory, pageable host memory in a copy. So
// are events, which a GPU takes but the project does not use there.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long flags);
// Looks again at every address that was captured: memory that has been freed since is a fault.
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

namespace witan::cuda_on_cpu {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
};

// False, and a fault, if the pointer is neither null nor inside a live device allocation.
bool check_pointer_argument(std::size_t position, const void* pointer);

template <class T>
bool check_argument(std::size_t position, const T& value) {
  if constexpr (std::is_pointer_v<T>) return check_pointer_argument(position, value);
  return true;
}

using KernelAddress = void (*)();
// `arguments_good` is asked again when a graph is launched.
cudaError_t enqueue_kernel(KernelAddress kernel, const LaunchShape& shape, cudaStream_t stream,
                           std::function<void()> thread_body, std::function<bool()> arguments_good);
cudaError_t allow_shared_bytes(KernelAddress kernel, int bytes);

template <class... Params, std::size_t... I>
cudaError_t launch_unpacked(void (*kernel)(Params...), const LaunchShape& shape, void** args,
                            cudaStream_t stream, std::index_sequence<I...>) {
  const std::tuple<Params...> values(*static_cast<Params*>(args[I])...);
  const auto arguments_good = [values] { return (check_argument(I, std::get<I>(values)) && ...); };
  if (!arguments_good()) return cudaErrorIllegalAddress;
  return enqueue_kernel(
      reinterpret_cast<KernelAddress>(kernel), shape, stream,
      [kernel, values] { std::apply(kernel, values); }, arguments_good);
}

// ---- what a kernel sees; valid while one runs

extern uint3 current_thread_index, current_block_index;
extern dim3 current_block_extent, current_grid_extent;

using Site = std::source_location;
void block_barrier(const Site& site);
// Every lane of `mask` hands in 8 bytes and receives those of lane `source` of its warp.
std::uint64_t warp_exchange(unsigned mask, std::uint64_t value, int source, const Site& site);
int current_lane();
// Every lane of a whole warp hands in `bytes` bytes; returns those of all 32, lane after lane,
// which are valid until the lane's next such call.
const std::byte* warp_gather(const void* own, std::size_t bytes, const Site& site);

// Copies to shared memory that happen as late as is allowed: when their thread waits for them.
// Without `valid` zeros are written and nothing is read.
void copy_later(void* to, const void* from, std::size_t bytes, bool valid, const Site& site);
void commit_copies();                 // those since the last commit become a group
void wait_for_copies(std::size_t n);  // until all groups but the last n have been copied

// The block's variable behind `key`, the same for all its threads.
void* shared_variable(const void* key, std::size_t bytes, std::size_t alignment);
void* dynamic_shared_memory();

template <class T>
T warp_exchange_typed(unsigned mask, T value, int source, const Site& site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_exchange(mask, bits, source, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <class T>
T& shared_variable_of(const void* key) {
  using Element = std::remove_all_extents_t<T>;
  static_assert(std::is_trivially_default_constructible_v<Element>,
                "a shared variable may not have a constructor");
  return *static_cast<T*>(shared_variable(key, sizeof(T), alignof(T)));
}

}  // namespace witan::cuda_on_cpu

template <class... Params>
cudaError_t cudaLaunchKernel(void (*kernel)(Params...), dim3 grid, dim3 block, void** args,
                             std::size_t shared_bytes, cudaStream_t stream) {
  return witan::cuda_on_cpu::launch_unpacked(kernel, {grid, block, shared_bytes}, args, stream,
                                             std::index_sequence_for<Params...>{});
}

template <class... Params>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Params...), cudaFuncAttribute, int value) {
  return witan::cuda_on_cpu::allow_shared_bytes(
      reinterpret_cast<witan::cuda_on_cpu::KernelAddress>(kernel), value);
}

// ---- the device language

#define __global__
#define __device__
#define __host__

inline const uint3& threadIdx = witan::cuda_on_cpu::current_thread_index;
inline const uint3& blockIdx = witan::cuda_on_cpu::current_block_index;
inline const dim3& blockDim = witan::cuda_on_cpu::current_block_extent;
inline const dim3& gridDim = witan::cuda_on_cpu::current_grid_extent;

inline void __syncthreads(const std::source_location& site = std::source_location::current()) {
  witan::cuda_on_cpu::block_barrier(site);
}
inline void __syncwarp(unsigned mask = 0xffffffffu,
                       const std::source_location& site = std::source_location::current()) {
  witan::cuda_on_cpu::warp_exchange(mask, 0, witan::cuda_on_cpu::current_lane(), site);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane,
              const std::source_location& site = std::source_location::current()) {
  return witan::cuda_on_cpu::warp_exchange_typed(mask, value, lane % 32, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask,
                  const std::source_location& site = std::source_location::current()) {
  const int source = witan::cuda_on_cpu::current_lane() ^ lane_mask;
  return witan::cuda_on_cpu::warp_exchange_typed(mask, value, source, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int delta,
                   const std::source_location& site = std::source_location::current()) {
  const int lane = witan::cuda_on_cpu::current_lane();
  const int source = lane + delta < 32 ? lane + delta : lane;
  return witan::cuda_on_cpu::warp_exchange_typed(mask, value, source, site);
}

// Blocks and threads take turns, so any sequence between two turns is atomic.
inline unsigned atomicAdd(unsigned* counter, unsigned value) {
  const unsigned before = *counter;
  *counter = before + value;
  return before;
}

inline std::uint32_t __float_as_uint(float x) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline long long __double_as_longlong(double x) {
  long long bits = 0;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline float __uint_as_float(std::uint32_t bits) {
  float x = 0.0F;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// ---- the definitions of core/base/cuda/dialect.h

// The address of a static of this declaration (one per instantiation of a template) is the key.
#define WITAN_SHARED(T, name)        \
  static const char name##_site = 0; \
  auto& name = ::witan::cuda_on_cpu::shared_variable_of<std::type_identity_t<T>>(&name##_site)
#define WITAN_UNROLL
#define WITAN_UNROLL_BY(n)

namespace witan {

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(cuda_on_cpu::dynamic_shared_memory());
}

}  // namespace witan

// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)

#include "core/base/cuda/stream_cuda.h"

#include <cuda_runtime.h>

#include <cstdlib>

#include "core/base/cuda/cuda_check.h"

namespace witan::cuda {
namespace {

// Tensor core products of bfloat16 and asynchronous copies, which the kernels contain, came with
// it.
constexpr int kLeastComputeCapability = 8;

cudaStream_t handle_of(Stream stream) { return static_cast<cudaStream_t>(stream.handle); }

std::string version_text(int code) { return detail::concat(code / 1000, ".", code % 1000 / 10); }

// Why there are no devices.
std::string reason_for_none(cudaError_t status) {
  int driver = 0;
  (void)cudaDriverGetVersion(&driver);
  if (status == cudaErrorInsufficientDriver && driver == 0) return "no NVIDIA driver was found";
  if (status == cudaErrorInsufficientDriver) {
    return detail::concat("its NVIDIA driver is for CUDA ", version_text(driver),
                          " at most, older than the CUDA runtime ", version_text(CUDART_VERSION),
                          " of this build: a newer driver would be right");
  }
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (visible == nullptr) return "its NVIDIA driver sees no GPU";
  return detail::concat("its NVIDIA driver shows no GPU, with CUDA_VISIBLE_DEVICES=\"", visible,
                        "\"");
}

int capability(cudaDeviceAttr figure, int device) {
  int value = 0;
  WITAN_CUDA_CHECK(cudaDeviceGetAttribute(&value, figure, device),
                   "asking for the compute capability of CUDA device ", device);
  return value;
}

void check_compute_capability(int device) {
  const int major = capability(cudaDevAttrComputeCapabilityMajor, device);
  if (major >= kLeastComputeCapability) return;
  const int minor = capability(cudaDevAttrComputeCapabilityMinor, device);
  throw_user_error("device CUDA ", device, " has compute capability ", major, ".", minor,
                   ", but the kernels need ", kLeastComputeCapability,
                   ".0 (Ampere) or newer; use another GPU, or the CPU backend");
}

// cudaGetDeviceCount without an error for machines that have none.
cudaError_t count_devices(int& count) {
  const cudaError_t status = cudaGetDeviceCount(&count);
  // A machine without a driver answers InsufficientDriver, one with a driver and no GPU NoDevice.
  if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver) {
    (void)cudaGetLastError();  // otherwise the next check would report it
    count = 0;
    return status;
  }
  WITAN_CUDA_CHECK(status, "counting the CUDA devices");
  return status;
}

}  // namespace

bool built_with_cuda() { return true; }

int device_count() {
  int count = 0;
  (void)count_devices(count);
  return count;
}

void use_device(Device device) {
  int count = 0;
  const cudaError_t status = count_devices(count);
  if (count == 0) {
    throw_user_error("device CUDA ", device.index,
                     " was asked for, but this machine has no usable one: ",
                     reason_for_none(status), "; use the CPU backend or a machine with a GPU");
  }
  if (device.index < 0 || device.index >= count) {
    throw_user_error("device CUDA ", device.index, " was asked for, but this machine has ", count,
                     ": 0 .. ", count - 1, " would be right");
  }
  WITAN_CUDA_CHECK(cudaSetDevice(device.index), "taking CUDA device ", device.index);
  check_compute_capability(device.index);
}

int compute_capability_major(Device device) {
  return capability(cudaDevAttrComputeCapabilityMajor, device.index);
}

std::string bus_id(Device device) {
  char id[32] = "";
  WITAN_CUDA_CHECK(cudaDeviceGetPCIBusId(id, sizeof id, device.index), "asking for the bus id of ",
                   "CUDA device ", device.index);
  return id;
}

DeviceProperties device_properties(Device device) {
  cudaDeviceProp found{};
  WITAN_CUDA_CHECK(cudaGetDeviceProperties(&found, device.index), "asking for the properties of ",
                   "CUDA device ", device.index);
  return {found.name, found.multiProcessorCount, found.l2CacheSize};
}

void* stream_create(Device device) {
  use_device(device);
  cudaStream_t stream = nullptr;
  WITAN_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  return stream;
}

void stream_destroy(Stream stream) noexcept {
  // Errors of the work itself belong to stream_synchronize(); here there is nobody to tell.
  (void)cudaStreamSynchronize(handle_of(stream));
  (void)cudaStreamDestroy(handle_of(stream));
}

void stream_synchronize(Stream stream) {
  WITAN_CUDA_CHECK(cudaStreamSynchronize(handle_of(stream)), "waiting for a stream");
}

void stream_wait_event(Stream stream, void* event) {
  WITAN_CUDA_CHECK(cudaStreamWaitEvent(handle_of(stream), static_cast<cudaEvent_t>(event), 0),
                   "making a stream wait for an event");
}

void capture_begin(Stream stream) {
  // Thread-local: what other threads do (a watchdog, a transport) does not end the capture.
  WITAN_CUDA_CHECK(cudaStreamBeginCapture(handle_of(stream), cudaStreamCaptureModeThreadLocal),
                   "beginning to capture a stream");
}

void* capture_end(Stream stream) {
  cudaGraph_t graph = nullptr;
  WITAN_CUDA_CHECK(cudaStreamEndCapture(handle_of(stream), &graph), "capturing a stream");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  (void)cudaGraphDestroy(graph);
  WITAN_CUDA_CHECK(status, "making a graph");
  return executable;
}

void capture_abandon(Stream stream) noexcept {
  cudaGraph_t graph = nullptr;
  (void)cudaStreamEndCapture(handle_of(stream), &graph);
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
}

void graph_launch(void* graph, Stream stream) {
  WITAN_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), handle_of(stream)),
                   "launching a graph");
}

void graph_destroy(void* graph) noexcept {
  (void)cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
}

void* event_create(Device device) {
  use_device(device);
  cudaEvent_t event = nullptr;
  WITAN_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  return event;
}

void event_destroy(void* event) noexcept {
  (void)cudaEventDestroy(static_cast<cudaEvent_t>(event));
}

void event_record(void* event, Stream stream) {
  WITAN_CUDA_CHECK(cudaEventRecord(static_cast<cudaEvent_t>(event), handle_of(stream)),
                   "recording an event");
}

void event_synchronize(void* event) {
  WITAN_CUDA_CHECK(cudaEventSynchronize(static_cast<cudaEvent_t>(event)), "waiting for an event");
}

bool event_happened(void* event) {
  const cudaError_t status = cudaEventQuery(static_cast<cudaEvent_t>(event));
  if (status == cudaErrorNotReady) return false;
  WITAN_CUDA_CHECK(status, "looking at an event");
  return true;
}

void* timed_event_create(Device device) {
  use_device(device);
  cudaEvent_t event = nullptr;
  WITAN_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDefault), "creating an event");
  return event;
}

double seconds_between(void* begin, void* end) {
  float milliseconds = 0.0F;
  WITAN_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(begin),
                                        static_cast<cudaEvent_t>(end)),
                   "asking for the time between two events");
  return static_cast<double>(milliseconds) * 1e-3;
}

}  // namespace witan::cuda

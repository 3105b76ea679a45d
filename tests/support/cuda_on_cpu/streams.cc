#include "tests/support/cuda_on_cpu/streams.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "tests/support/cuda_on_cpu/block.h"
#include "tests/support/cuda_on_cpu/control.h"
#include "tests/support/cuda_on_cpu/cuda_runtime.h"
#include "tests/support/cuda_on_cpu/fault.h"
#include "tests/support/cuda_on_cpu/memory.h"
#include "tests/support/cuda_on_cpu/random_order.h"

namespace {

using namespace witan::cuda_on_cpu;

// How often an event was recorded, and up to which of those records the streams have come.
// Any thread may ask for that.
struct EventState {
  std::atomic<std::uint64_t> recorded = 0;
  std::atomic<std::uint64_t> reached = 0;
  bool timed = false;
  std::chrono::steady_clock::time_point reached_at = {};
};

struct Task {
  std::function<void()> run;
  std::function<bool()> ready = {};  // empty: always
  std::function<bool()> good = {};   // asked when a graph is launched; empty: always
};

}  // namespace

struct CUgraph_st {
  std::vector<Task> tasks;
};
struct CUgraphExec_st {
  std::vector<Task> tasks;
};
struct CUstream_st {
  std::deque<Task> tasks;
  CUgraph_st* capture = nullptr;  // takes what is enqueued
};
struct CUevent_st {
  std::shared_ptr<EventState> state = std::make_shared<EventState>();
};

namespace {

CUstream_st default_stream;
std::vector<CUstream_st*> streams{&default_stream};
RandomOrder order(1);

// The machine of tests that start whole programs.
int initial_device_count() {
  const char* count = std::getenv("WITAN_STAND_IN_GPUS");
  return count == nullptr ? 1 : std::atoi(count);
}
int device_count = initial_device_count();

int initial_driver_version() {
  const char* version = std::getenv("WITAN_STAND_IN_DRIVER");
  if (version != nullptr) return std::atoi(version);
  return device_count == 0 ? 0 : CUDART_VERSION;
}
int driver_version = initial_driver_version();

int initial_compute_capability() {
  const char* capability = std::getenv("WITAN_STAND_IN_COMPUTE_CAPABILITY");
  return capability == nullptr ? 80 : std::atoi(capability);
}
const int compute_capability = initial_compute_capability();
std::uint64_t launches = 0;
std::uint64_t waits_of_the_host = 0;
const std::thread::id owner = std::this_thread::get_id();   // of may_run_work()
std::map<KernelAddress, std::size_t> allowed_shared_bytes;  // where more than the usual

CUstream_st& stream_of(cudaStream_t stream) { return stream == nullptr ? default_stream : *stream; }

void push(CUstream_st& stream, Task task) {
  if (stream.capture != nullptr) {
    stream.capture->tasks.push_back(std::move(task));
  } else {
    stream.tasks.push_back(std::move(task));
  }
}

cudaError_t refuse_in_capture(const std::string& call) {
  report_fault(cudaErrorStreamCaptureUnsupported, call + " while a stream is captured");
  return cudaErrorStreamCaptureUnsupported;
}

// Runs the head of a randomly chosen stream, until `done`.
template <class Done>
void run_until(Done done) {
  std::vector<CUstream_st*> runnable;
  while (!done()) {
    runnable.clear();
    for (CUstream_st* stream : streams) {
      if (stream->tasks.empty()) continue;
      const Task& head = stream->tasks.front();
      if (!head.ready || head.ready()) runnable.push_back(stream);
    }
    // A wait for an event is only ever enqueued behind its record, so without other processes some
    // head can always run.
    if (runnable.empty()) {
      sched_yield();
      continue;
    }
    CUstream_st& stream = *runnable[order.below(runnable.size())];
    const Task task = std::move(stream.tasks.front());
    stream.tasks.pop_front();
    task.run();
  }
}

void run_stream(CUstream_st& stream) {
  run_until([&] { return stream.tasks.empty(); });
}

cudaError_t refuse_launch(const std::string& why) {
  report_fault(cudaErrorInvalidConfiguration, "launch refused: " + why);
  return cudaErrorInvalidConfiguration;
}

}  // namespace

namespace witan::cuda_on_cpu {

void set_seed(std::uint64_t seed) { order = RandomOrder(seed); }
void set_device_count(int count, int version) {
  device_count = count;
  driver_version = count > 0 ? CUDART_VERSION : version;
}

void enqueue_task(cudaStream_t stream, std::function<bool()> ready, std::function<void()> run) {
  if (forbidden_in_capture("work that waits for other processes")) return;
  push(stream_of(stream), {std::move(run), std::move(ready)});
}

bool forbidden_in_capture(const std::string& call) {
  const bool captured = std::any_of(streams.begin(), streams.end(), [](const CUstream_st* stream) {
    return stream->capture != nullptr;
  });
  if (captured) refuse_in_capture(call);
  return captured;
}

std::uint64_t host_waits() { return waits_of_the_host; }

bool may_run_work() { return std::this_thread::get_id() == owner; }

void run_a_little() {
  bool looked = false;
  run_until([&] { return std::exchange(looked, true); });
}

void run_everything() {
  run_until([] {
    return std::all_of(streams.begin(), streams.end(),
                       [](const CUstream_st* stream) { return stream->tasks.empty(); });
  });
}

cudaError_t enqueue_library_work(cudaStream_t stream, const std::string& name,
                                 std::function<void()> work, std::function<bool()> good) {
  if (fault_status() != cudaSuccess) return fault_status();
  push(stream_of(stream), {[name, work = std::move(work)] {
                             if (fault_status() != cudaSuccess) return;
                             const DeviceMemoryOpen opened;
                             work();
                             check_red_zones(name);
                           },
                           {},
                           std::move(good)});
  return cudaSuccess;
}

cudaError_t allow_shared_bytes(KernelAddress kernel, int bytes) {
  if (bytes < 0 || static_cast<std::size_t>(bytes) > kMostSharedBytes) {
    return refuse_launch("a block has at most 163 KiB of shared memory");
  }
  allowed_shared_bytes[kernel] = static_cast<std::size_t>(bytes);
  return fault_status();
}

cudaError_t enqueue_kernel(KernelAddress kernel, const LaunchShape& shape, cudaStream_t stream,
                           std::function<void()> thread_body,
                           std::function<bool()> arguments_good) {
  if (fault_status() != cudaSuccess) return fault_status();
  const auto& [grid, block, shared_bytes] = shape;
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0)
    return refuse_launch("it is empty");
  if (grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535) return refuse_launch("large grid");
  if (threads > 1024 || block.z > 64) return refuse_launch("more than 1024 threads in a block");
  const auto allowed = allowed_shared_bytes.find(kernel);
  if (shared_bytes > (allowed == allowed_shared_bytes.end() ? kSharedBytes : allowed->second)) {
    return refuse_launch("more than 48 KiB of shared memory, not asked for");
  }
  const std::string name = "kernel launch " + std::to_string(++launches);
  push(stream_of(stream), {[shape, body = std::move(thread_body), name] {
                             // A device with an error runs nothing more.
                             if (fault_status() != cudaSuccess) return;
                             const DeviceMemoryOpen opened;
                             run_grid(shape, body, order, name);
                             check_red_zones(name);
                           },
                           {},
                           std::move(arguments_good)});
  return cudaSuccess;
}

}  // namespace witan::cuda_on_cpu

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (driver_version < CUDART_VERSION) return cudaErrorInsufficientDriver;
  *count = device_count;
  return device_count == 0 ? cudaErrorNoDevice : fault_status();
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = driver_version;
  return cudaSuccess;
}

// Like an A100.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const bool major = attribute == cudaDevAttrComputeCapabilityMajor;
  *value = major ? compute_capability / 10 : compute_capability % 10;
  return fault_status();
}

// Small enough for what is made as large as a device to be made here.
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= device_count) return cudaErrorInvalidDevice;
  *properties = {"stand-in for a GPU", 1, 1 << 12};
  return fault_status();
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  if (device < 0 || device >= device_count) return cudaErrorInvalidDevice;
  std::snprintf(id, static_cast<std::size_t>(length), "0000:%02x:00.0",
                static_cast<unsigned>(device));
  return fault_status();
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= device_count) return cudaErrorInvalidDevice;
  use_memory_of(device);
  return fault_status();
}

// Pageable host memory: a source is read at once, a copy to it waits. Pinned: when the copy runs.
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t handle) {
  if (fault_status() != cudaSuccess) return fault_status();
  const auto good = [to, from, bytes] {
    for (const void* side : {static_cast<const void*>(to), from}) {
      if (!is_device_address(side) || is_allocated(side, bytes)) continue;
      report_fault(cudaErrorInvalidValue,
                   "a copy of " + std::to_string(bytes) + " bytes leaves its allocation");
      return false;
    }
    return true;
  };
  if (!good()) return cudaErrorInvalidValue;
  CUstream_st& stream = stream_of(handle);
  const auto pageable = [](const void* side) {
    return !is_device_address(side) && !is_pinned(side);
  };
  if (stream.capture != nullptr && (pageable(to) || pageable(from))) {
    return refuse_in_capture("a copy of pageable host memory");
  }
  const auto enqueue_copy = [&](auto source) {
    push(stream, {[to, source, bytes] {
                    const DeviceMemoryOpen opened;
                    std::memcpy(to, &source[0], bytes);
                  },
                  {},
                  good});
  };
  const char* bytes_from = static_cast<const char*>(from);
  if (is_device_address(from) || is_pinned(from)) {
    enqueue_copy(bytes_from);
  } else {
    enqueue_copy(std::vector<char>(bytes_from, bytes_from + bytes));
  }
  if (!is_device_address(to) && !is_pinned(to)) {
    ++waits_of_the_host;
    run_stream(stream);
  }
  return fault_status();
}

cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
  const auto good = [data, bytes] {
    if (is_allocated(data, bytes)) return true;
    report_fault(cudaErrorInvalidValue,
                 "cudaMemsetAsync of " + std::to_string(bytes) + " bytes leaves its allocation");
    return false;
  };
  if (!good()) return cudaErrorInvalidValue;
  return enqueue_library_work(
      stream, "cudaMemsetAsync", [data, value, bytes] { std::memset(data, value, bytes); }, good);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (fault_status() != cudaSuccess) return fault_status();
  *stream = new CUstream_st;
  streams.push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  run_stream(*stream);
  std::erase(streams, stream);
  delete stream;
  return fault_status();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (forbidden_in_capture("a wait for a stream")) return fault_status();
  ++waits_of_the_host;
  run_stream(stream_of(stream));
  return fault_status();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (stream_of(stream).capture != nullptr) return refuse_in_capture("an event");
  const std::uint64_t record = event->state->recorded;
  push(stream_of(stream),
       {[] {}, [state = event->state, record] { return state->reached >= record; }});
  return fault_status();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (fault_status() != cudaSuccess) return fault_status();
  *event = new CUevent_st;
  (*event)->state->timed = (flags & cudaEventDisableTiming) == 0;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;  // work in flight shares its state
  return fault_status();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (stream_of(stream).capture != nullptr) return refuse_in_capture("an event");
  const std::uint64_t record = ++event->state->recorded;
  push(stream_of(stream), {[state = event->state, record] {
         state->reached_at = std::chrono::steady_clock::now();
         state->reached = std::max(state->reached.load(), record);
       }});
  return fault_status();
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (forbidden_in_capture("a wait for an event")) return fault_status();
  ++waits_of_the_host;
  const std::uint64_t record = event->state->recorded;
  run_until([&] { return event->state->reached >= record; });
  return fault_status();
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  for (const cudaEvent_t event : {begin, end}) {
    const EventState& state = *event->state;
    if (!state.timed || state.recorded == 0) return cudaErrorInvalidValue;
    if (state.reached < state.recorded) return cudaErrorNotReady;
  }
  const std::chrono::duration<float, std::milli> took =
      end->state->reached_at - begin->state->reached_at;
  *milliseconds = took.count();
  return fault_status();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (fault_status() != cudaSuccess) return fault_status();
  const EventState& state = *event->state;
  if (may_run_work() && state.reached < state.recorded) run_a_little();
  return state.reached >= state.recorded ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (fault_status() != cudaSuccess) return fault_status();
  if (stream == nullptr || stream->capture != nullptr) return cudaErrorStreamCaptureUnsupported;
  stream->capture = new CUgraph_st;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(stream_of(stream).capture, nullptr);
  if (*graph == nullptr) return cudaErrorInvalidValue;
  return fault_status();
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  if (fault_status() != cudaSuccess) return fault_status();
  *executable = new CUgraphExec_st{graph->tasks};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t handle) {
  if (fault_status() != cudaSuccess) return fault_status();
  CUstream_st& stream = stream_of(handle);
  if (stream.capture != nullptr) return refuse_in_capture("a launch of a graph");
  for (const Task& task : executable->tasks) {
    if (task.good && !task.good()) return fault_status();
    push(stream, task);
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return fault_status();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;  // what is enqueued has been copied
  return fault_status();
}

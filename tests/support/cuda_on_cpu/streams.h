// Streams: queues of work that runs only when somebody waits, in an order that is as free as CUDA
// allows, so that a missing event shows.
#pragma once

#include <functional>
#include <string>

#include "tests/support/cuda_on_cpu/cuda_runtime.h"

namespace witan::cuda_on_cpu {

// Enqueues work of a library (not a kernel) that reads and writes device memory; `name` is how
// faults call it.
// `good`, if given, is asked when a graph that has the work is launched.
cudaError_t enqueue_library_work(cudaStream_t stream, const std::string& name,
                                 std::function<void()> work, std::function<bool()> good = {});

// Work of a stream that may have to wait for other processes: `run` is called once `ready` says so.
void enqueue_task(cudaStream_t stream, std::function<bool()> ready, std::function<void()> run);

// Whether the calling thread is the program's first, the only one that may run work. Others may
// ask whether an event has happened, and abort a communicator.
bool may_run_work();

// Runs one piece of work, if some can run.
void run_a_little();

// Runs what is enqueued on all streams.
void run_everything();

// True, and a fault, while a stream is captured: `call` is what must not happen then.
bool forbidden_in_capture(const std::string& call);

}  // namespace witan::cuda_on_cpu

// Streams: queues of work that runs only when somebody waits, in an order that is as free as CUDA
// allows, so that a missing event shows.
#pragma once

namespace witan::cuda_on_cpu {

// Runs what is enqueued on all streams.
void run_everything();

}  // namespace witan::cuda_on_cpu

// Devices, streams and events of CUDA behind plain types, so that what includes this needs no CUDA
// header; a build without CUDA has a twin that throws.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/context.h"

namespace witan::cuda {

// Whether this build has the backend at all.
bool built_with_cuda();

// Devices that can be used; 0 if there is no driver, or one too old.
int device_count();

// Makes `device` the calling thread's current one; throws UserError with the runtime's reason if it
// cannot be used.
void use_device(Device device);

// The first figure of the device's compute capability: 9 for Hopper.
int compute_capability_major(Device device);

// Which GPU of the machine it is, "0000:3b:00.0": two processes may call the same one differently.
std::string bus_id(Device device);

struct DeviceProperties {
  std::string name;  // "NVIDIA H100 80GB HBM3"
  std::int64_t multiprocessors = 0;
  std::int64_t l2_bytes = 0;
};
DeviceProperties device_properties(Device device);

void* stream_create(Device device);
void stream_destroy(Stream stream) noexcept;  // waits for it first
void stream_synchronize(Stream stream);
void stream_wait_event(Stream stream, void* event);

// Work that is enqueued on `stream` from here on is recorded, not run, until capture_end(), which
// gives it as a graph that can be launched as a whole. Meanwhile this thread must not wait for the
// stream nor take or give back device memory. capture_abandon(): ends it and drops what it has.
void capture_begin(Stream stream);
void* capture_end(Stream stream);
void capture_abandon(Stream stream) noexcept;
void graph_launch(void* graph, Stream stream);
void graph_destroy(void* graph) noexcept;  // what is in flight still runs

void* event_create(Device device);
void event_destroy(void* event) noexcept;
void event_record(void* event, Stream stream);
void event_synchronize(void* event);
bool event_happened(void* event);

// An event that says when it happened, and the seconds between two that have.
void* timed_event_create(Device device);
double seconds_between(void* begin, void* end);

}  // namespace witan::cuda

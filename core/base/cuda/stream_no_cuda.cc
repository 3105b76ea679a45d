#include "core/base/cuda/built_without_cuda.h"
#include "core/base/cuda/stream_cuda.h"

namespace witan::cuda {

bool built_with_cuda() { return false; }
int device_count() { return 0; }
void use_device(Device) { throw_built_without_cuda("a device"); }
int compute_capability_major(Device) { throw_built_without_cuda("a device"); }
std::string bus_id(Device) { throw_built_without_cuda("a device"); }
DeviceProperties device_properties(Device) { throw_built_without_cuda("a device"); }

void* stream_create(Device) { throw_built_without_cuda("a stream"); }
void stream_destroy(Stream) noexcept {}
void stream_synchronize(Stream) { throw_built_without_cuda("a wait for a stream"); }
void stream_wait_event(Stream, void*) { throw_built_without_cuda("a wait for an event"); }

void capture_begin(Stream) { throw_built_without_cuda("a graph"); }
void* capture_end(Stream) { throw_built_without_cuda("a graph"); }
void capture_abandon(Stream) noexcept {}
void graph_launch(void*, Stream) { throw_built_without_cuda("a graph"); }
void graph_destroy(void*) noexcept {}

void* event_create(Device) { throw_built_without_cuda("an event"); }
void event_destroy(void*) noexcept {}
void event_record(void*, Stream) { throw_built_without_cuda("a record of an event"); }
void event_synchronize(void*) { throw_built_without_cuda("a wait for an event"); }
bool event_happened(void*) { throw_built_without_cuda("a look at an event"); }
void* timed_event_create(Device) { throw_built_without_cuda("an event"); }
double seconds_between(void*, void*) { throw_built_without_cuda("a time between events"); }

}  // namespace witan::cuda

#include "core/base/graph_segment.h"

#include <algorithm>

#include "core/base/cuda/stream_cuda.h"

namespace witan {

GraphSegment::~GraphSegment() {
  for (const Entry& entry : entries_) {
    if (entry.graph != nullptr) cuda::graph_destroy(entry.graph);
  }
}

GraphSegment::Step GraphSegment::begin(const Context& ctx, const GraphKey& key) {
  ++clock_;
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.key == key; });
  if (found == entries_.end()) {
    if (entries_.size() < kEntries) {
      entries_.emplace_back();
    } else {
      std::iter_swap(std::min_element(
                         entries_.begin(), entries_.end(),
                         [](const Entry& a, const Entry& b) { return a.last_used < b.last_used; }),
                     entries_.end() - 1);
      if (entries_.back().graph != nullptr) cuda::graph_destroy(entries_.back().graph);
    }
    entries_.back() = {key, nullptr, clock_};
    ++counts_.run;
    return Step::kRun;
  }
  found->last_used = clock_;
  if (found->graph != nullptr) {
    cuda::graph_launch(found->graph, ctx.stream);
    ++counts_.launched;
    return Step::kLaunched;
  }
  cuda::capture_begin(ctx.stream);
  capturing_ = &*found;
  return Step::kCapture;
}

void GraphSegment::launch_captured(const Context& ctx) {
  Entry& entry = *capturing_;
  capturing_ = nullptr;
  entry.graph = cuda::capture_end(ctx.stream);
  cuda::graph_launch(entry.graph, ctx.stream);
  ++counts_.captured;
  ++counts_.launched;
}

void GraphSegment::abandon(const Context& ctx) noexcept {
  capturing_ = nullptr;
  cuda::capture_abandon(ctx.stream);
}

}  // namespace witan

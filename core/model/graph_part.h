// A part of a layer whose work follows from shapes and addresses: one CUDA graph, or as it is.
#pragma once

#include <memory>

#include "core/base/context.h"
#include "core/base/graph_segment.h"
#include "core/base/profile.h"

namespace witan {

// `graph` is made with the first part of it that is to be one. make_key() says all that the work
// follows from (core/base/graph_segment.h).
template <class MakeKey, class Work>
void enqueue_part(const Context& ctx, bool as_graph, const char* profile_name,
                  std::unique_ptr<GraphSegment>& graph, const MakeKey& make_key, const Work& work) {
  if (!as_graph) return work();
  const ProfileScope profile(profile_name);
  if (!graph) graph = std::make_unique<GraphSegment>();
  graph->run(ctx, make_key(), work);
}

}  // namespace witan

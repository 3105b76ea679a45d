#include "launch/plan/activations.h"

#include <algorithm>

#include "core/model/head_chunk.h"
#include "launch/plan/layer_arenas.h"

namespace witan {
namespace {

// The head and the cross-entropy, chunk by chunk.
void head_backward(const PlanSubject& subject, std::int64_t tokens, ArenaCount& scratch) {
  const ArenaCount::Scope scope(scratch);
  const std::int64_t chunk = std::min(tokens, head_chunk(subject.dims.vocab));
  scratch.allocate(chunk * subject.dims.vocab, subject.activation_bytes);
  scratch.allocate(chunk, subject.activation_bytes);
}

}  // namespace

ActivationArenas count_activations(const PlanSubject& subject, const PlanLayout& layout,
                                   const RoutedRows& rows, bool windows) {
  ActivationArenas arenas;
  LayerArenas layers(subject, layout, rows, windows, arenas);
  const std::vector<bool>& is_moe = subject.dims.is_moe;
  const bool recompute = layout.recompute == Recompute::kLayer;
  const std::int64_t residual = rows.tokens * subject.dims.d_model;
  const auto take = [&](ArenaCount& arena) { arena.allocate(residual, subject.activation_bytes); };

  take(arenas.saved);  // embedding
  for (const bool moe : is_moe) {
    take(arenas.saved);
    const std::int64_t mark = arenas.saved.mark();
    layers.forward(moe, false);
    if (recompute) arenas.saved.rewind(mark);
  }
  take(arenas.saved);
  layers.norm(arenas.saved);

  take(arenas.scratch);
  take(arenas.scratch);
  head_backward(subject, rows.tokens, arenas.scratch);
  for (std::size_t layer = is_moe.size(); layer-- > 0;) {
    const ArenaCount::Scope recomputed(arenas.saved);
    if (recompute) {
      const ArenaCount::Scope output(arenas.scratch);
      take(arenas.scratch);
      layers.forward(is_moe[layer], true);
    }
    layers.backward(is_moe[layer]);
  }
  return arenas;
}

LayerTraffic layer_traffic(const PlanSubject& subject, const PlanLayout& layout,
                           const RoutedRows& rows, bool moe) {
  ActivationArenas arenas;
  LayerArenas layer(subject, layout, rows, true, arenas);
  layer.attention_forward();
  LayerTraffic traffic;
  traffic.attention_bytes = arenas.saved.allocated();
  traffic.attention_requests = arenas.saved.requests();
  layer.feed_forward(moe, false);
  const auto all = [&](auto figure) { return figure(arenas.saved) + figure(arenas.scratch); };
  traffic.feed_forward_bytes =
      all([](const ArenaCount& arena) { return arena.allocated(); }) - traffic.attention_bytes;
  traffic.feed_forward_requests =
      all([](const ArenaCount& arena) { return arena.requests(); }) - traffic.attention_requests;
  return traffic;
}

}  // namespace witan

#include "launch/plan/activations.h"

#include <algorithm>
#include <vector>

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

// core/model/mtp.cc
class MtpArenas {
 public:
  MtpArenas(const PlanSubject& subject, const PlanLayout& layout, double imbalance, bool windows,
            ActivationArenas& arenas)
      : subject_(subject), layout_(layout), windows_(windows), arenas_(arenas) {
    for (std::int64_t depth = 0; depth <= subject.dims.mtp; ++depth) {
      rows_.push_back(routed_rows(subject, layout, imbalance, depth));
    }
  }

  void forward() {
    for (std::size_t k = 1; k < rows_.size(); ++k) {
      LayerArenas layer(subject_, layout_, rows_[k], windows_, arenas_);
      // Positions and first keys; on a GPU tokens and targets too.
      for (int i = 0; i < (subject_.on_cuda() ? 4 : 2); ++i) {
        arenas_.saved.allocate(rows_[k].tokens, 4);
      }
      for (int i = 0; i < 3; ++i) take(arenas_.saved, k);  // h, embedding, h before
      take(arenas_.saved, k, 2);                           // both, joined
      take(arenas_.saved, k);
      {
        const ArenaCount::Scope normed(arenas_.scratch);
        take(arenas_.scratch, k);
        layer.norm(arenas_.saved);
        layer.norm(arenas_.saved);
      }
      take(arenas_.saved, k);
      const std::int64_t mark = arenas_.saved.mark();
      layer.forward(subject_.dims.mtp_moe(), false);
      if (layout_.recompute == Recompute::kLayer) arenas_.saved.rewind(mark);
      layer.norm(arenas_.saved);
    }
  }

  void backward() {
    const ArenaCount::Scope scope(arenas_.scratch);
    for (std::size_t k = 1; k < rows_.size(); ++k) {
      take(arenas_.scratch, k);
      head_backward(subject_, rows_[k].tokens, arenas_.scratch);
    }
    for (std::size_t k = rows_.size() - 1; k > 0; --k) {
      const ArenaCount::Scope module(arenas_.scratch);
      const ArenaCount::Scope recomputed(arenas_.saved);
      LayerArenas layer(subject_, layout_, rows_[k], windows_, arenas_);
      take(arenas_.scratch, k);
      if (layout_.recompute == Recompute::kLayer) {
        const ArenaCount::Scope output(arenas_.scratch);
        take(arenas_.scratch, k);
        layer.forward(subject_.dims.mtp_moe(), true);
      }
      layer.backward(subject_.dims.mtp_moe());
      take(arenas_.scratch, k, 2);
      take(arenas_.scratch, k);
      take(arenas_.scratch, k - 1);
    }
  }

 private:
  // A tensor [rows of depth k, times d_model].
  void take(ArenaCount& arena, std::size_t k, std::int64_t times = 1) const {
    arena.allocate(rows_[k].tokens * times * subject_.dims.d_model, subject_.activation_bytes);
  }

  const PlanSubject& subject_;
  const PlanLayout& layout_;
  bool windows_;
  ActivationArenas& arenas_;
  std::vector<RoutedRows> rows_;  // by depth, 0 being the main model
};

}  // namespace

ActivationArenas count_activations(const PlanSubject& subject, const PlanLayout& layout,
                                   double imbalance, bool windows) {
  ActivationArenas arenas;
  const RoutedRows rows = routed_rows(subject, layout, imbalance);
  LayerArenas layers(subject, layout, rows, windows, arenas);
  const std::vector<bool>& is_moe = subject.dims.is_moe;
  const bool recompute = layout.recompute == Recompute::kLayer;
  const std::int64_t residual = rows.tokens * subject.dims.d_model;
  const auto take = [&](ArenaCount& arena) { arena.allocate(residual, subject.activation_bytes); };
  MtpArenas modules(subject, layout, imbalance, windows, arenas);

  take(arenas.saved);  // embedding
  for (const bool moe : is_moe) {
    take(arenas.saved);
    const std::int64_t mark = arenas.saved.mark();
    layers.forward(moe, false);
    if (recompute) arenas.saved.rewind(mark);
  }
  take(arenas.saved);
  layers.norm(arenas.saved);
  modules.forward();

  take(arenas.scratch);
  take(arenas.scratch);
  head_backward(subject, rows.tokens, arenas.scratch);
  modules.backward();
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

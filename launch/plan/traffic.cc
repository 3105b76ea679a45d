#include "launch/plan/traffic.h"

#include <algorithm>

#include "core/model/param_placement.h"

namespace witan {
namespace {

class Traffic {
 public:
  Traffic(const PlanSubject& subject, const PlanLayout& layout)
      : subject_(subject), layout_(layout) {}

  // Rows or slots of all micro-batches and so many MoE layers; near and far units have these bytes.
  void exchange(const char* kind, std::int64_t layers, std::int64_t near, std::int64_t far,
                std::int64_t near_bytes, std::int64_t far_bytes) {
    const double times = static_cast<double>(layout_.micro_batches) * static_cast<double>(layers);
    add({kind, "expert", times * static_cast<double>(near * near_bytes),
         times * static_cast<double>(far * far_bytes),
         times * (layout_.expert_parallel - 1) * subject_.exchange.chunks});
  }

  // A buffer of `elements` over ranks that are `stride` apart: `passes` times all but this rank's
  // share.
  void collective(const char* kind, const char* group, double elements, int ranks, int stride,
                  int passes) {
    if (ranks == 1 || elements == 0.0) return;
    const double bytes =
        elements * static_cast<double>(subject_.value_bytes) * (ranks - 1) / ranks * passes;
    const int near = std::max(1, std::min(ranks, layout_.ranks_per_node / stride));
    const double near_share = static_cast<double>(near - 1) / (ranks - 1);
    add({kind, group, bytes * near_share, bytes * (1.0 - near_share),
         static_cast<double>(ranks - 1) * passes});
  }

  std::vector<TrafficPart> parts;

 private:
  void add(TrafficPart part) {
    if (part.bytes() == 0.0) return;
    const auto same = std::find_if(parts.begin(), parts.end(), [&](const TrafficPart& other) {
      return other.kind == part.kind;
    });
    if (same == parts.end()) {
      parts.push_back(std::move(part));
      return;
    }
    same->near_bytes += part.near_bytes;
    same->far_bytes += part.far_bytes;
    same->messages += part.messages;
  }
  const PlanSubject& subject_;
  const PlanLayout& layout_;
};

// Of `moe_layers` layers, on sequences that are so many tokens `shorter`.
void add_exchange(const PlanSubject& subject, const PlanLayout& layout, std::int64_t moe_layers,
                  std::int64_t shorter, Traffic& traffic) {
  const RoutedRows rows = routed_rows(subject, layout, 1.0, shorter);
  const std::int64_t near =
      subject.dims.d_model * (subject.on_cuda() ? subject.wire_bytes : subject.activation_bytes);
  const std::int64_t far = subject.dims.d_model * subject.wire_bytes;
  const auto send_rows = [&](const char* kind) {
    traffic.exchange(kind, moe_layers, rows.sent_near, rows.sent_far, near, far);
  };
  const bool layer = layout.recompute == Recompute::kLayer;
  send_rows("dispatch");
  send_rows("combine");
  if (layer || layout.recompute == Recompute::kMoeLayer) send_rows(kDispatchAgain);
  if (layer) send_rows(kCombineAgain);
  send_rows("combine backward");
  send_rows("dispatch backward");
  // Of each slot a code, of each row its token, and of each slot a weight there and its gradient
  // back.
  const std::int64_t peers = layout.expert_parallel;
  const std::int64_t slots_near = rows.sent_slots * (layout.near_ranks() - 1) / peers;
  const std::int64_t slots_far = rows.sent_slots * (peers - layout.near_ranks()) / peers;
  traffic.exchange("routing plan", moe_layers, slots_near + rows.sent_near,
                   slots_far + rows.sent_far, 4, 4);
  const std::int64_t weight = subject.activation_bytes * (layer ? 3 : 2);
  traffic.exchange("routing weights", moe_layers, slots_near, slots_far, weight, weight);
}

}  // namespace

std::vector<TrafficPart> plan_traffic(const PlanSubject& subject, const PlanLayout& layout) {
  Traffic traffic(subject, layout);
  if (layout.expert_parallel > 1 && subject.dims.experts > 0) {
    add_exchange(subject, layout, subject.dims.moe_layers(), 0, traffic);
    for (std::int64_t depth = 1; subject.dims.mtp_moe() && depth <= subject.dims.mtp; ++depth) {
      add_exchange(subject, layout, 1, depth, traffic);
    }
  }
  ParamStore::Layout params;
  params.local_experts = subject.dims.experts / layout.expert_parallel;
  params.dense_ranks = layout.ranks;
  params.expert_ranks = layout.replicas();
  const ParamPlacement placement(subject.table, params);
  const auto dense = static_cast<double>(placement.elements[0]);
  const auto expert = static_cast<double>(placement.elements[1]);
  const int ep = layout.expert_parallel;
  if (subject.run.optimizer().zero1()) {
    traffic.collective("dense gradients, reduce-scatter", "world", dense, layout.ranks, 1, 1);
    traffic.collective("dense weights, all-gather", "world", dense, layout.ranks, 1, 1);
    traffic.collective("expert gradients, reduce-scatter", "replica", expert, layout.replicas(), ep,
                       1);
    traffic.collective("expert weights, all-gather", "replica", expert, layout.replicas(), ep, 1);
  } else {
    traffic.collective("dense gradients, all-reduce", "world", dense, layout.ranks, 1, 2);
    traffic.collective("expert gradients, all-reduce", "replica", expert, layout.replicas(), ep, 2);
  }
  return traffic.parts;
}

}  // namespace witan

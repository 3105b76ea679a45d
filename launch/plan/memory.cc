#include "launch/plan/memory.h"

#include <algorithm>

#include "core/model/param_placement.h"
#include "launch/plan/cuda_memory.h"

namespace witan {
namespace {

constexpr std::int64_t kRoundedBytes = 2;  // of a weight's copy in bfloat16

// What one rank holds of a buffer that several share evenly, once the others' parts have arrived.
std::int64_t others_share(std::int64_t elements, int ranks, bool split) {
  return split && ranks > 1 ? elements / ranks * (ranks - 1) : 0;
}

struct FlatBuffers {
  std::int64_t elements[2];  // of this rank, dense and expert
  std::int64_t shares[2];    // of those, what it updates
};

FlatBuffers add_parameters(const PlanSubject& subject, const PlanLayout& layout, MemoryPlan& plan) {
  ParamStore::Layout params;
  params.local_experts = subject.dims.experts / layout.expert_parallel;
  params.dense_ranks = layout.ranks;
  params.expert_ranks = layout.replicas();
  const ParamPlacement placement(subject.table, params);
  const bool zero1 = subject.run.optimizer().zero1();
  const std::int64_t bytes = subject.value_bytes;
  const int holders[2] = {params.dense_ranks, params.expert_ranks};
  FlatBuffers buffers = {};
  if (!subject.on_cuda()) plan.weights = placement.state_elements * bytes;
  // On the CPU only what does not train keeps them.
  if (subject.on_cuda() && subject.run.runtime().precision() == configs::RuntimeConfig::BF16) {
    plan.rounded = kRoundedBytes * placement.rounded_elements;
  }
  for (int group = 0; group < 2; ++group) {
    const std::int64_t elements = placement.elements[group];
    const std::int64_t share = zero1 ? elements / holders[group] : elements;
    buffers.elements[group] = elements;
    buffers.shares[group] = share;
    plan.weights += elements * bytes;
    plan.gradients += elements * bytes;
    plan.optimizer += 2 * share * bytes;
    // On GPUs they are reduced in place.
    if (!subject.on_cuda()) {
      plan.reduction += others_share(elements, holders[group], zero1) * bytes;
    }
  }
  return buffers;
}

// parallel/node_windows.cc: two outboxes in turn, each half as large again as its message. Rows of
// a dispatch are read where they lie; those of a combine lie in the outbox, this rank's own
// included. parallel/part_transfer.h: what goes to other nodes and comes from there.
std::int64_t exchange_bytes(const PlanSubject& subject, const PlanLayout& layout,
                            const RoutedRows& rows) {
  if (layout.expert_parallel == 1) return rows.slots * subject.activation_bytes;
  const std::int64_t d = subject.dims.d_model;
  const std::int64_t chunks = subject.exchange.chunks;
  std::int64_t bytes = 0;
  const bool windows = uses_windows(subject, layout);
  if (windows) {
    const std::int64_t weights = std::max(rows.slots, rows.sent_slots) * subject.activation_bytes;
    const std::int64_t words = 4 * (rows.sent_slots + rows.sent);
    const std::int64_t combine = rows.rows * d * subject.activation_bytes;
    bytes += 3 * (combine + weights + words) / chunks;
  }
  const std::int64_t sent = windows ? rows.sent_far : rows.sent;
  const std::int64_t received = windows ? rows.received_far : rows.rows;
  bytes += 2 * (sent + received) * d * subject.wire_bytes / chunks;    // both directions
  bytes += (rows.slots + rows.sent_slots) * subject.activation_bytes;  // routing weights
  return bytes;
}

}  // namespace

bool uses_windows(const PlanSubject& subject, const PlanLayout& layout) {
  if (subject.on_cuda()) return false;
  return subject.exchange.transport != ExchangeTransport::kAllToAll && layout.near_ranks() > 1;
}

MemoryPlan plan_memory(const PlanSubject& subject, const PlanLayout& layout, double imbalance) {
  MemoryPlan plan;
  const FlatBuffers buffers = add_parameters(subject, layout, plan);
  const RoutedRows rows = routed_rows(subject, layout, imbalance);
  const ActivationArenas arenas =
      count_activations(subject, layout, imbalance, uses_windows(subject, layout));
  plan.activations = arenas.saved.high_water();
  plan.routing = arenas.choice.high_water();
  plan.scratch = arenas.scratch.high_water();
  if (subject.on_cuda()) {
    plan.exchange = device_exchange_bytes(subject, layout, rows);
    plan.kernels = kernel_scratch_bytes(subject, rows);
    plan.pinned = pinned_bytes(subject, layout, rows, buffers.elements, buffers.shares);
  } else {
    plan.exchange = exchange_bytes(subject, layout, rows);
  }
  return plan;
}

}  // namespace witan

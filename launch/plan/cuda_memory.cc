#include "launch/plan/cuda_memory.h"

#include <algorithm>

#include "core/model/head_chunk.h"

namespace witan {
namespace {

constexpr std::int64_t kRoundedBytes = 2;      // of an operand in bfloat16
constexpr std::int64_t kPartialBytes = 8;      // of a partial sum
constexpr std::int64_t kRowsOfAPartial = 128;  // core/ops/cuda/column_sums.h

std::int64_t up_width(const PlanSubject& subject) {
  const bool gated = subject.run.model().moe().expert_kind() == configs::MoeConfig::SWIGLU;
  return gated ? 2 * subject.dims.moe_ff : subject.dims.moe_ff;
}

// Elements of both operands of the largest gradient of a weight, activations both: no product reads
// more of them.
std::int64_t largest_operands(const PlanSubject& subject, const RoutedRows& rows) {
  const ModelDims& dims = subject.dims;
  const std::int64_t d = dims.d_model;
  std::int64_t most = rows.tokens * (d + std::max(dims.qkv_rows(), dims.heads * dims.v_dim));
  most = std::max(most, rows.tokens * (d + 2 * std::max(dims.dense_ff, dims.shared_ff)));
  const std::int64_t slots = (rows.slots + subject.exchange.chunks - 1) / subject.exchange.chunks;
  if (dims.experts > 0) {
    most = std::max(most, slots * (d + std::max(up_width(subject), dims.moe_ff)));
  }
  const std::int64_t chunk = std::min(rows.tokens, head_chunk(dims.vocab));
  return std::max(most, chunk * (d + dims.vocab));
}

}  // namespace

std::int64_t kernel_scratch_bytes(const PlanSubject& subject, const RoutedRows& rows) {
  const ModelDims& dims = subject.dims;
  std::int64_t bytes = subject.cublas_workspace;
  if (subject.run.runtime().precision() == configs::RuntimeConfig::BF16) {
    bytes += kRoundedBytes * largest_operands(subject, rows);
    const std::int64_t heads = dims.qkv_rows() + dims.heads * dims.v_dim;
    bytes = std::max(bytes, kRoundedBytes * rows.tokens * heads);
  }
  const std::int64_t blocks = (rows.tokens + kRowsOfAPartial - 1) / kRowsOfAPartial;
  const std::int64_t columns = std::max(2 * dims.d_model, dims.qkv_rows());
  return std::max(bytes, kPartialBytes * blocks * columns);
}

std::int64_t device_exchange_bytes(const PlanSubject& subject, const PlanLayout& layout,
                                   const RoutedRows& rows) {
  if (layout.expert_parallel == 1) return 0;
  const std::int64_t leave = rows.sent_near + rows.sent_far;
  const std::int64_t arrive = rows.rows - rows.own;
  const bool rounds = subject.exchange.format != ops::WireFormat::kAsIs;
  // A dispatch: what leaves and, where it is rounded, what arrives. A combine: what its sums read,
  // and where it is rounded both ways as well.
  const std::int64_t on_wire = rounds ? 2 * (leave + arrive) : leave;
  return (on_wire * subject.wire_bytes + rows.sent * subject.activation_bytes) /
         subject.exchange.chunks * subject.dims.d_model;
}

std::int64_t pinned_bytes(const PlanSubject& subject, const PlanLayout& layout,
                          const RoutedRows& rows, const std::int64_t (&elements)[2],
                          const std::int64_t (&shares)[2]) {
  if (layout.ranks == 1) return 0;
  if (subject.run.parallel().device_transport() != configs::ParallelConfig::STAGED_MPI) return 0;
  const int holders[2] = {layout.ranks, layout.replicas()};
  std::int64_t reduction = 0;
  for (int group = 0; group < 2; ++group) {
    if (holders[group] == 1) continue;
    const bool split = shares[group] < elements[group];
    reduction += (elements[group] + (split ? shares[group] : 0)) * subject.value_bytes;
  }
  if (layout.expert_parallel == 1) return reduction;
  const std::int64_t exchange = (rows.sent + rows.rows) / subject.exchange.chunks *
                                subject.dims.d_model * subject.activation_bytes;
  return std::max(reduction, exchange);
}

}  // namespace witan

#include "optim/sharded_adamw.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "core/base/profile.h"
#include "core/model/expert_mask.h"
#include "core/ops/adamw.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/tensor/host_twin.h"
#include "optim/lr_schedule.h"

namespace witan {
namespace {

// A part of a tensor, in elements of its group's flat buffer.
struct Piece {
  int id = -1;
  std::int64_t begin = 0;
  std::int64_t size = 0;
  double lr_factor = 1.0;
  bool decay = false;
};

// Rows of a tensor that belong to one expert each, or none: the gate over groups of a hierarchical
// router has fewer rows than the router.
std::int64_t expert_rows(const ParamTable& table, const ParamInfo& info) {
  if (info.role == ParamRole::kExpert) return info.shape[0];
  if (info.role != ParamRole::kRouter) return 0;
  const int router = table.find(detail::concat("layers.", info.layer, ".moe.router.weight"));
  return info.shape[0] == table[router].shape[0] ? info.shape[0] : 0;
}

// A tensor of this rank in runs of one factor, unfrozen or not.
std::vector<Piece> pieces_of(const ParamStore& params, const ParamSpan& span,
                             const configs::OptimizerConfig& config) {
  const ParamInfo& info = params.table()[span.id];
  const std::int64_t experts = expert_rows(params.table(), info);
  if (experts == 0) {
    const double factor = lr_factor(config, info.name.c_str());
    return {{span.id, span.begin, span.size, factor, info.decay}};
  }
  const std::vector<double> factors = lr_factors_of_experts(config, info.name.c_str(), experts);
  const bool sharded = info.role == ParamRole::kExpert;
  const std::int64_t row = info.shape.size() / experts;
  std::vector<Piece> pieces;
  for (std::int64_t i = 0; i < span.size / row; ++i) {
    const std::int64_t expert = sharded ? params.layout().first_expert + i : i;
    const double factor = factors[static_cast<std::size_t>(expert)];
    if (pieces.empty() || pieces.back().lr_factor != factor) {
      pieces.push_back({span.id, span.begin + i * row, 0, factor, info.decay});
    }
    pieces.back().size += row;
  }
  return pieces;
}

// The parts of the trained, unfrozen tensors that lie in [begin, begin + size).
std::vector<Piece> pieces_within(const ParamStore& params, ParamGroup group,
                                 const configs::OptimizerConfig& config, std::int64_t begin,
                                 std::int64_t size) {
  std::vector<Piece> pieces;
  for (const ParamSpan& span : params.spans(group)) {
    for (Piece piece : pieces_of(params, span, config)) {
      const std::int64_t end = std::min(piece.begin + piece.size, begin + size);
      piece.begin = std::max(piece.begin, begin);
      piece.size = end - piece.begin;
      if (piece.size > 0 && piece.lr_factor != 0.0) pieces.push_back(piece);
    }
  }
  return pieces;
}

void check_experts(const configs::LrRule& rule, int index, std::int64_t experts) {
  try {
    if (!parse_experts(rule.experts(), experts).empty()) return;
  } catch (const UserError& error) {
    throw_user_error("optimizer.rule[", index, "].experts: ", error.what());
  }
  throw_user_error("optimizer.rule[", index,
                   "].experts: is empty; expected numbers and ranges like \"0-3,8\"");
}

void check_rules(const configs::OptimizerConfig& config, const ParamTable& table) {
  for (int i = 0; i < config.rule_size(); ++i) {
    const std::string& pattern = config.rule(i).pattern();
    bool matches = false;
    for (const ParamInfo& info : table.params()) {
      if (!info.trained() ||
          !rule_matches(config.rule(i), info.name.c_str(), expert_rows(table, info))) {
        continue;
      }
      matches = true;
      if (config.rule(i).has_experts()) check_experts(config.rule(i), i, expert_rows(table, info));
    }
    if (matches) continue;
    throw_user_error("optimizer.rule[", i, "].pattern: \"", pattern, "\" matches no trained tensor",
                     config.rule(i).has_experts() ? " of experts or routers" : "",
                     "; `witan inspect` lists their names");
  }
}

}  // namespace

struct ShardedAdamW::Shard {
  ParamGroup group = ParamGroup::kDense;
  Communicator* ranks = nullptr;  // hold the same buffer
  bool split = false;             // ZeRO-1 over more than one rank
  // This rank's even share of the buffer, and what it updates: its share or all.
  std::int64_t share_begin = 0, share_size = 0;
  std::int64_t begin = 0, size = 0;
  std::vector<Piece> share_pieces;  // every element stands in the share of exactly one rank
  std::vector<Piece> pieces;
  Tensor moments[2];  // m, v of [begin, begin + size)
  // Over NCCL the gradients are reduced layer by layer.
  struct Bucket {
    int layer = -1;  // of the model; -1: of none
    std::int64_t begin = 0, size = 0;
    bool begun = false;
  };
  std::vector<Bucket> buckets;  // of the whole buffer, in its order; empty: all at once
  std::vector<Request> requests;

  // A group without tensors takes part in nothing; it is empty on every rank.
  bool empty() const { return size == 0; }
  TensorView moment(int which, const Piece& piece) const {
    return moments[which].view().slice_rows(piece.begin - begin, piece.size);
  }
};

ShardedAdamW::ShardedAdamW(const configs::OptimizerConfig& config, ParamStore& params,
                           const Mesh& mesh, const Context& ctx)
    : config_(config), params_(params), mesh_(mesh), ctx_(ctx) {
  WITAN_CHECK(params.has_gradients(), "the optimizer needs parameters with gradients");
  check_rules(config_, params.table());
  for (const ParamGroup group : {ParamGroup::kDense, ParamGroup::kExpert}) {
    Shard shard;
    shard.group = group;
    shard.ranks = group == ParamGroup::kDense ? &mesh.world() : &mesh.replica();
    const std::int64_t elements = params.flat_values(group).size();
    const int ranks = shard.ranks->size();
    WITAN_CHECK(elements % ranks == 0, "flat buffer of ", elements, " elements over ", ranks,
                " ranks: pad it to a multiple");
    shard.split = config_.zero1() && ranks > 1;
    shard.share_size = elements / ranks;
    shard.share_begin = shard.share_size * shard.ranks->rank();
    shard.begin = shard.split ? shard.share_begin : 0;
    shard.size = shard.split ? shard.share_size : elements;
    shard.share_pieces = pieces_within(params, group, config_, shard.share_begin, shard.share_size);
    shard.pieces = pieces_within(params, group, config_, shard.begin, shard.size);
    for (Tensor& moment : shard.moments) {
      moment = Tensor(Shape{shard.size}, params.dtype(), params.device(), "optimizer state");
      ops::fill(ctx_, moment, 0.0);
    }
    if (mesh.on_nccl() && ranks > 1) {
      for (const ParamSpan& span : params.spans(group)) {
        const int layer = params.table()[span.id].layer;
        if (shard.buckets.empty() || shard.buckets.back().layer != layer) {
          shard.buckets.push_back({layer, span.begin});
        }
        shard.buckets.back().size = span.begin + span.size - shard.buckets.back().begin;
      }
    }
    shards_.push_back(std::move(shard));
  }
}

ShardedAdamW::~ShardedAdamW() = default;

const ShardedAdamW::Shard& ShardedAdamW::shard(ParamGroup group) const {
  return shards_[group == ParamGroup::kDense ? 0 : 1];
}
ShardedAdamW::Shard& ShardedAdamW::shard(ParamGroup group) {
  return shards_[group == ParamGroup::kDense ? 0 : 1];
}

void ShardedAdamW::reduce_begin(ParamGroup group) {
  const ProfileScope profile("gradient reduction");
  Shard& s = shard(group);
  if (s.empty()) return;
  if (!s.buckets.empty()) {
    for (std::size_t i = 0; i < s.buckets.size(); ++i) {
      if (!s.buckets[i].begun) begin_bucket(s, i);
    }
    return;
  }
  WITAN_CHECK(s.requests.empty(), "gradient reduction begun twice on communicator '",
              s.ranks->name(), "'");
  const TensorView grads = params_.flat_grads(group);
  s.requests.push_back(
      s.split ? s.ranks->reduce_scatter_sum(grads, grads.slice_rows(s.share_begin, s.share_size))
              : s.ranks->all_reduce(grads, ReduceOp::kSum));
}

void ShardedAdamW::reduce_layer(int layer) {
  for (Shard& s : shards_) {
    for (std::size_t i = 0; i < s.buckets.size(); ++i) {
      if (s.buckets[i].layer != layer) continue;
      const ProfileScope profile("gradient reduction");
      begin_bucket(s, i);
    }
  }
}

// With ZeRO-1 each rank gets the sum of what lies in its share; a layer has a part of one share, or
// parts of a few.
void ShardedAdamW::begin_bucket(Shard& s, std::size_t bucket) {
  Shard::Bucket& b = s.buckets[bucket];
  WITAN_CHECK(!b.begun, "gradient reduction of layer ", b.layer, " begun twice on communicator '",
              s.ranks->name(), "'");
  b.begun = true;
  const TensorView grads = params_.flat_grads(s.group);
  if (!s.split) {
    s.requests.push_back(s.ranks->all_reduce(grads.slice_rows(b.begin, b.size), ReduceOp::kSum));
    return;
  }
  for (int owner = 0; owner < s.ranks->size(); ++owner) {
    const std::int64_t begin = std::max(b.begin, owner * s.share_size);
    const std::int64_t end = std::min(b.begin + b.size, (owner + 1) * s.share_size);
    if (begin >= end) continue;
    s.requests.push_back(s.ranks->reduce_sum(grads.slice_rows(begin, end - begin), owner));
  }
}

void ShardedAdamW::reduce_end(ParamGroup group) {
  const ProfileScope profile("gradient reduction");
  Shard& s = shard(group);
  for (Request& request : s.requests) request.wait_on(ctx_);
  s.requests.clear();
  for (Shard::Bucket& bucket : s.buckets) bucket.begun = false;
}

ShardedAdamW::Norm ShardedAdamW::gradient_norm(double divisor) {
  const ProfileScope profile("gradient norm");
  WITAN_CHECK(divisor > 0.0, "gradient norm: expected a positive number of loss tokens, found ",
              divisor);
  constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
  double total = 0.0;
  std::int64_t nonfinite = kNone;  // the first tensor of the table
  // Shares, also where every rank has the whole sum: each element then counts once over the world.
  for (const Shard& s : shards_) {
    const TensorView grads = params_.flat_grads(s.group);
    for (const Piece& piece : s.share_pieces) {
      const double squares = ops::sum_of_squares(ctx_, grads.slice_rows(piece.begin, piece.size));
      total += squares;
      if (!std::isfinite(squares)) nonfinite = std::min<std::int64_t>(nonfinite, piece.id);
    }
  }
  Request sum = mesh_.world().all_reduce(view_of(&total, {1}), ReduceOp::kSum);
  Request first = mesh_.world().all_reduce(view_of(&nonfinite, {1}), ReduceOp::kMin);
  sum.wait();
  first.wait();
  Norm norm;
  norm.value = std::sqrt(total) / divisor;
  if (nonfinite != kNone) norm.nonfinite = params_.table()[static_cast<int>(nonfinite)].name;
  return norm;
}

void ShardedAdamW::step(std::int64_t step, double lr, double norm, double divisor) {
  WITAN_CHECK(divisor > 0.0, "optimizer step: expected a positive number of loss tokens, found ",
              divisor);
  const bool clip = config_.clip_norm() > 0.0 && norm > config_.clip_norm();
  const double grad_scale = (clip ? config_.clip_norm() / norm : 1.0) / divisor;
  for (Shard& s : shards_) {
    if (s.empty()) continue;
    update(s, step, lr, grad_scale);
    if (!s.split) continue;
    const TensorView values = params_.flat_values(s.group);
    s.requests.push_back(
        s.ranks->all_gather(values.slice_rows(s.share_begin, s.share_size), values));
  }
  const ProfileScope profile("all-gather of weights");
  for (Shard& s : shards_) {
    for (Request& request : s.requests) request.wait_on(ctx_);
    s.requests.clear();
  }
}

void ShardedAdamW::update(const Shard& s, std::int64_t step, double lr, double grad_scale) {
  const ProfileScope profile("optimizer step");
  const TensorView values = params_.flat_values(s.group);
  const TensorView grads = params_.flat_grads(s.group);
  const double t = static_cast<double>(step) + 1.0;
  for (const Piece& piece : s.pieces) {
    ops::AdamWStep factors;
    factors.lr = lr * piece.lr_factor;
    factors.beta1 = config_.beta1();
    factors.beta2 = config_.beta2();
    factors.eps = config_.eps();
    factors.weight_decay = piece.decay ? config_.weight_decay() : 0.0;
    factors.bias_correction1 = 1.0 - std::pow(config_.beta1(), t);
    factors.bias_correction2 = 1.0 - std::pow(config_.beta2(), t);
    factors.grad_scale = grad_scale;
    ops::adamw(ctx_, factors, values.slice_rows(piece.begin, piece.size),
               grads.slice_rows(piece.begin, piece.size), s.moment(0, piece), s.moment(1, piece));
  }
}

void ShardedAdamW::zero_gradients() {
  const ProfileScope profile("zero gradients");
  for (const Shard& s : shards_) ops::fill(ctx_, params_.flat_grads(s.group), 0.0);
}

void ShardedAdamW::zero_gradients(ParamGroup group) {
  const ProfileScope profile("zero gradients");
  ops::fill(ctx_, params_.flat_grads(group), 0.0);
}

void ShardedAdamW::gather_moment(int moment, ParamGroup group, const TensorView& flat) {
  const Shard& s = shard(group);
  if (s.empty()) return;
  const HostTwin mine(ctx_, s.moments[moment]);
  mine.read();
  if (s.split) {
    s.ranks->all_gather(mine.view(), flat).wait();
  } else {
    ops::copy({}, mine.view(), flat);
  }
}

void ShardedAdamW::set_moment(int moment, ParamGroup group, const TensorView& flat) {
  const Shard& s = shard(group);
  if (s.empty()) return;
  WITAN_CHECK(flat.size() == params_.flat_values(group).size(), "optimizer state: expected ",
              params_.flat_values(group).size(), " elements, found ", flat.size());
  transfer(ctx_, flat.slice_rows(s.begin, s.size), s.moments[moment].view());
}

std::size_t ShardedAdamW::state_bytes() const {
  std::size_t bytes = 0;
  for (const Shard& s : shards_) {
    for (const Tensor& moment : s.moments) bytes += moment.view().bytes();
  }
  return bytes;
}

}  // namespace witan

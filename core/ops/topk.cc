#include "core/ops/topk.h"

#include <algorithm>
#include <limits>

#include "core/ops/cpu/router_kernels.h"
#include "core/ops/cpu/row_blocks.h"
#include "core/ops/cpu/scratch.h"
#include "core/ops/cuda/route.h"
#include "core/ops/cuda/topk.h"
#include "core/ops/dispatch.h"
#include "core/ops/index_check.h"
#include "core/ops/parallel.h"
#include "core/ops/reduce.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kGrain = 4096;  // scores per thread below which threads do not pay

std::int64_t grain_tokens(std::int64_t experts) { return kGrain / (experts + 1) + 1; }

// The squares of the values of z that are not minus infinity, and how many there are.
void add_finite_squares(const TensorView& z, double& squares, double& count) {
  dispatch_float(z.dtype, "router logits", [&](auto zero) {
    const auto* logit = z.as<decltype(zero)>();
    for (std::int64_t i = 0; i < z.size(); ++i) {
      const auto value = static_cast<double>(logit[i]);
      if (value == -std::numeric_limits<double>::infinity()) continue;
      squares += value * value;
      count += 1.0;
    }
  });
}

void check_scores(const Context& ctx, const char* op, const char* name, const TensorView& s) {
  check_float(op, name, s, 2);
  check_operand(ctx, op, name, s, s.dtype, s.shape);
  WITAN_CHECK(s.cols() > 0, op, ": ", name, ": expected at least one expert, found shape ",
              s.shape.to_string());
}

// top_k, after `indices` [tokens, top_k] was checked against the scores.
std::int64_t check_choices(const Context& ctx, const char* op, const TensorView& s,
                           const TensorView& indices) {
  WITAN_CHECK(indices.shape.rank() == 2, op, ": indices: expected [tokens, top_k], found shape ",
              indices.shape.to_string());
  const std::int64_t top_k = indices.cols();
  WITAN_CHECK(top_k >= 1 && top_k <= s.cols(), op, ": expected top_k in 1 .. ", s.cols(),
              " (experts), found ", top_k);
  check_operand(ctx, op, "indices", indices, DType::kInt32, {s.rows(), top_k});
  return top_k;
}

}  // namespace

void router_score(const Context& ctx, Score score, const TensorView& z, const TensorView& s,
                  const TensorView& lse) {
  check_scores(ctx, "router_score", "z", z);
  check_operand(ctx, "router_score", "s", s, z.dtype, z.shape);
  check_operand(ctx, "router_score", "lse", lse, z.dtype, {z.rows()});
  WITAN_CHECK(z.rows() == 0 || s.data != z.data, "router_score: s may not be z");
  if (ctx.device.is_cuda()) return cuda::router_score(ctx, score, z, s, lse);
  const std::int64_t experts = z.cols();
  dispatch_float(z.dtype, "router_score", [&](auto type) {
    using T = decltype(type);
    const T* logits = z.as<T>();
    T* scores = s.as<T>();
    T* sums = lse.as<T>();
    parallel_ranges(z.rows(), grain_tokens(experts), [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(router_score<T>, score, logits + begin * experts, scores + begin * experts,
                     sums + begin, end - begin, experts);
    });
  });
}

void topk(const Context& ctx, const TensorView& s, const TensorView& bias,
          const TensorView& indices) {
  check_scores(ctx, "topk", "s", s);
  const std::int64_t top_k = check_choices(ctx, "topk", s, indices);
  const std::int64_t experts = s.cols();
  if (!bias.empty()) check_operand(ctx, "topk", "bias", bias, s.dtype, {experts});
  if (ctx.device.is_cuda()) return cuda::topk(ctx, s, bias, indices);
  dispatch_float(s.dtype, "topk", [&](auto type) {
    using T = decltype(type);
    const T* scores = s.as<T>();
    const T* shift = bias.empty() ? nullptr : bias.as<T>();
    auto* chosen = indices.as<std::int32_t>();
    parallel_ranges(s.rows(), grain_tokens(experts), [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(topk<T>, scores + begin * experts, shift, chosen + begin * top_k, end - begin,
                     experts, top_k);
    });
  });
}

void group_topk(const Context& ctx, const ExpertGroups& groups, const TensorView& s,
                const TensorView& bias, const TensorView& indices) {
  check_scores(ctx, "group_topk", "s", s);
  const std::int64_t top_k = check_choices(ctx, "group_topk", s, indices);
  const std::int64_t experts = s.cols();
  WITAN_CHECK(groups.groups >= 1 && experts % groups.groups == 0, "group_topk: ", experts,
              " experts do not make ", groups.groups, " equal groups");
  WITAN_CHECK(groups.groups <= kMostGroups && groups.best <= kMostGroupBest, "group_topk: at most ",
              kMostGroups, " groups and the best ", kMostGroupBest, " of each, found ",
              groups.groups, " and ", groups.best);
  const std::int64_t size = experts / groups.groups;
  WITAN_CHECK(groups.best >= 1 && groups.best <= size, "group_topk: best ", groups.best,
              " of a group of ", size);
  WITAN_CHECK(groups.keep <= groups.groups && groups.keep * size >= top_k,
              "group_topk: ", groups.keep, " groups of ", size, " experts do not hold ", top_k,
              " choices");
  if (!bias.empty()) check_operand(ctx, "group_topk", "bias", bias, s.dtype, {experts});
  if (ctx.device.is_cuda()) return cuda::group_topk(ctx, groups, s, bias, indices);
  dispatch_float(s.dtype, "group_topk", [&](auto type) {
    using T = decltype(type);
    const T* scores = s.as<T>();
    const T* shift = bias.empty() ? nullptr : bias.as<T>();
    auto* chosen = indices.as<std::int32_t>();
    parallel_ranges(s.rows(), grain_tokens(experts), [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(group_topk<T>, groups, scores + begin * experts, shift, chosen + begin * top_k,
                     end - begin, experts, top_k);
    });
  });
}

void keep_mass(const Context& ctx, double mass, const TensorView& s, const TensorView& indices) {
  check_scores(ctx, "keep_mass", "s", s);
  const std::int64_t top_k = check_choices(ctx, "keep_mass", s, indices);
  const std::int64_t experts = s.cols();
  if (ctx.device.is_cuda()) return cuda::keep_mass(ctx, mass, s, indices);
  check_indices("keep_mass", "indices", indices, 0, experts);
  dispatch_float(s.dtype, "keep_mass", [&](auto type) {
    using T = decltype(type);
    const T* scores = s.as<T>();
    auto* chosen = indices.as<std::int32_t>();
    parallel_ranges(s.rows(), grain_tokens(experts), [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(keep_mass<T>, mass, scores + begin * experts, chosen + begin * top_k,
                     end - begin, experts, top_k);
    });
  });
}

void route_weights(const Context& ctx, RouteWeights kind, double scale, const TensorView& s,
                   const TensorView& indices, const TensorView& weights) {
  check_scores(ctx, "route_weights", "s", s);
  const std::int64_t top_k = check_choices(ctx, "route_weights", s, indices);
  check_operand(ctx, "route_weights", "weights", weights, s.dtype, indices.shape);
  if (ctx.device.is_cuda()) return cuda::route_weights(ctx, kind, scale, s, indices, weights);
  const std::int64_t experts = s.cols();
  check_indices("route_weights", "indices", indices, kNoChoice, experts);
  dispatch_float(s.dtype, "route_weights", [&](auto type) {
    using T = decltype(type);
    const T* scores = s.as<T>();
    const auto* chosen = indices.as<std::int32_t>();
    T* w = weights.as<T>();
    parallel_ranges(s.rows(), kGrain / top_k, [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(route_weights<T>, kind, scale, scores + begin * experts,
                     chosen + begin * top_k, w + begin * top_k, end - begin, experts, top_k);
    });
  });
}

void route_topk(const Context& ctx, const RouteKind& kind, const TensorView& z,
                const TensorView& bias, const TensorView& s, const TensorView& lse,
                const TensorView& indices, const TensorView& weights) {
  if (ctx.device.is_cpu()) {
    router_score(ctx, kind.score, z, s, lse);
    topk(ctx, s, bias, indices);
    return route_weights(ctx, kind.weights, kind.scale, s, indices, weights);
  }
  const char* op = "route_topk";
  check_scores(ctx, op, "z", z);
  check_operand(ctx, op, "s", s, z.dtype, z.shape);
  check_operand(ctx, op, "lse", lse, z.dtype, {z.rows()});
  check_choices(ctx, op, z, indices);
  if (!bias.empty()) check_operand(ctx, op, "bias", bias, z.dtype, {z.cols()});
  check_operand(ctx, op, "weights", weights, z.dtype, indices.shape);
  cuda::route_topk(ctx, kind, z, bias, s, lse, indices, weights);
}

void table_choices(const Context& ctx, const TensorView& tokens, const TensorView& table,
                   std::int64_t experts, const TensorView& indices) {
  const char* op = "table_choices";
  check_operand(ctx, op, "indices", indices, DType::kInt32, {indices.rows(), indices.cols()});
  if (!table.empty()) {
    check_operand(ctx, op, "tokens", tokens, DType::kInt32, {indices.rows()});
    check_operand(ctx, op, "table", table, DType::kInt32, {table.size()});
  }
  if (ctx.device.is_cuda()) return cuda::table_choices(ctx, tokens, table, experts, indices);
  if (!table.empty()) check_indices(op, "tokens", tokens, 0, table.size());
  const std::int64_t top_k = indices.cols();
  auto* index = indices.as<std::int32_t>();
  for (std::int64_t t = 0; t < indices.rows(); ++t) {
    const std::int64_t first =
        table.empty() ? 0 : table.as<std::int32_t>()[tokens.as<std::int32_t>()[t]] * top_k;
    for (std::int64_t j = 0; j < top_k; ++j) {
      index[t * top_k + j] = static_cast<std::int32_t>((first + j) % experts);
    }
  }
}

void router_backward(const Context& ctx, Score score, RouteWeights kind, double scale,
                     const TensorView& z, const TensorView& s, const TensorView& lse,
                     const TensorView& indices, const TensorView& weights,
                     const TensorView& dweights, const TensorView& ds_extra, double z_loss_scale,
                     const TensorView& dz) {
  const char* op = "router_backward";
  check_scores(ctx, op, "s", s);
  const std::int64_t top_k = check_choices(ctx, op, s, indices);
  check_operand(ctx, op, "weights", weights, s.dtype, indices.shape);
  check_operand(ctx, op, "dweights", dweights, s.dtype, indices.shape);
  check_operand(ctx, op, "dz", dz, s.dtype, s.shape);
  if (!ds_extra.empty()) check_operand(ctx, op, "ds_extra", ds_extra, s.dtype, s.shape);
  if (z_loss_scale != 0.0) {
    check_operand(ctx, op, "z", z, s.dtype, s.shape);
    check_operand(ctx, op, "lse", lse, s.dtype, {s.rows()});
  }
  if (ctx.device.is_cuda()) {
    return cuda::router_backward(ctx, score, kind, scale, z, s, lse, indices, weights, dweights,
                                 ds_extra, z_loss_scale, dz);
  }
  const std::int64_t experts = s.cols();
  check_indices(op, "indices", indices, kNoChoice, experts);
  dispatch_float(s.dtype, op, [&](auto type) {
    using T = decltype(type);
    const bool z_loss = z_loss_scale != 0.0;
    const cpu::RouterGradient<T> all = {z_loss ? z.as<T>() : nullptr,
                                        s.as<T>(),
                                        z_loss ? lse.as<T>() : nullptr,
                                        indices.as<std::int32_t>(),
                                        weights.as<T>(),
                                        dweights.as<T>(),
                                        ds_extra.empty() ? nullptr : ds_extra.as<T>(),
                                        dz.as<T>(),
                                        scale,
                                        z_loss_scale};
    parallel_ranges(s.rows(), grain_tokens(experts), [&](std::int64_t begin, std::int64_t end) {
      cpu::RouterGradient<T> range = all;
      if (range.z != nullptr) range.z += begin * experts;
      range.s += begin * experts;
      if (range.lse != nullptr) range.lse += begin;
      range.indices += begin * top_k;
      range.weights += begin * top_k;
      range.dweights += begin * top_k;
      if (range.ds_extra != nullptr) range.ds_extra += begin * experts;
      range.dz += begin * experts;
      WITAN_CALL_ISA(router_backward<T>, score, kind, range, end - begin, experts, top_k);
    });
  });
}

void count_experts(const Context& ctx, const TensorView& indices, const TensorView& counts) {
  check_operand(ctx, "count_experts", "indices", indices, DType::kInt32, indices.shape);
  check_operand(Context{}, "count_experts", "counts", counts, DType::kInt64, {counts.size()});
  if (ctx.device.is_cuda()) return cuda::count_experts(ctx, indices, counts);
  check_indices("count_experts", "indices", indices, kNoChoice, counts.size());
  const auto* chosen = indices.as<std::int32_t>();
  auto* count = counts.as<std::int64_t>();
  std::fill_n(count, counts.size(), 0);
  for (std::int64_t i = 0; i < indices.size(); ++i) {
    if (chosen[i] != kNoChoice) ++count[chosen[i]];
  }
}

void router_probability_sums(const Context& ctx, Score score, const TensorView& s,
                             const TensorView& p_sum) {
  const char* op = "router_probability_sums";
  check_scores(ctx, op, "s", s);
  const std::int64_t experts = s.cols();
  check_operand(ctx, op, "p_sum", p_sum, s.dtype, {experts});
  if (ctx.device.is_cuda()) return cuda::router_probability_sums(ctx, score, s, p_sum);
  const cpu::RowBlocks blocks(s.rows());
  auto* partials = cpu::scratch_of<double>(blocks.count * experts);
  dispatch_float(s.dtype, op, [&](auto type) {
    using T = decltype(type);
    const T* scores = s.as<T>();
    parallel_ranges(blocks.count, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t b = first; b < last; ++b) {
        const std::int64_t begin = blocks.begin(b);
        WITAN_CALL_ISA(probability_sums<T>, score, scores + begin * experts, partials + b * experts,
                       blocks.end(b) - begin, experts);
      }
    });
    T* sums = p_sum.as<T>();
    for (std::int64_t e = 0; e < experts; ++e) {
      double total = 0.0;
      for (std::int64_t b = 0; b < blocks.count; ++b) total += partials[b * experts + e];
      sums[e] = static_cast<T>(total);
    }
  });
}

void router_probability_backward(const Context& ctx, Score score, const TensorView& s,
                                 const TensorView& coefficient, const TensorView& ds) {
  const char* op = "router_probability_backward";
  check_scores(ctx, op, "s", s);
  const std::int64_t experts = s.cols();
  check_operand(ctx, op, "coefficient", coefficient, s.dtype, {experts});
  check_operand(ctx, op, "ds", ds, s.dtype, s.shape);
  if (ctx.device.is_cuda()) {
    return cuda::router_probability_backward(ctx, score, s, coefficient, ds);
  }
  dispatch_float(s.dtype, op, [&](auto type) {
    using T = decltype(type);
    const T* scores = s.as<T>();
    const T* c = coefficient.as<T>();
    T* grad = ds.as<T>();
    parallel_ranges(s.rows(), grain_tokens(experts), [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(probability_backward<T>, score, scores + begin * experts, c,
                     grad + begin * experts, end - begin, experts);
    });
  });
}

void add_router_figures(const Context& ctx, bool masked, const TensorView& z, const TensorView& lse,
                        const TensorView& weights, const TensorView& sums) {
  const char* op = "add_router_figures";
  check_scores(ctx, op, "z", z);
  check_operand(ctx, op, "lse", lse, z.dtype, {z.rows()});
  check_operand(ctx, op, "weights", weights, z.dtype, {z.rows(), weights.cols()});
  check_operand(ctx, op, "sums", sums, DType::kFloat64, {4});
  if (ctx.device.is_cuda()) return cuda::add_router_figures(ctx, masked, z, lse, weights, sums);
  auto* total = sums.as<double>();
  total[0] += sum(ctx, lse);
  if (masked) {
    add_finite_squares(z, total[1], total[3]);
  } else {
    total[1] += sum_of_squares(ctx, z);
    total[3] += static_cast<double>(z.size());
  }
  const std::int64_t top_k = weights.cols();
  dispatch_float(z.dtype, op, [&](auto type) {
    const auto* weight = weights.as<decltype(type)>();
    for (std::int64_t t = 0; t < z.rows(); ++t) {
      total[2] +=
          static_cast<double>(*std::max_element(weight + t * top_k, weight + (t + 1) * top_k));
    }
  });
}

}  // namespace witan::ops

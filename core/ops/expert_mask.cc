#include "core/ops/expert_mask.h"

#include <limits>

#include "core/base/error.h"
#include "core/ops/cuda/expert_mask.h"
#include "core/ops/dispatch.h"
#include "core/ops/index_check.h"
#include "core/ops/topk.h"

namespace witan::ops {
namespace {

// Throws unless the table is one for `experts` and there is a tag for each of `tokens` tokens.
void check_table(const Context& ctx, const char* op, const TagExperts& table,
                 const TensorView& tags, std::int64_t tokens) {
  WITAN_CHECK(tags.size() == tokens, op, ": the experts depend on the tokens' tags: ", tags.size(),
              " tags for ", tokens, " tokens");
  check_operand(ctx, op, "tags", tags, DType::kInt32, {tokens});
  check_operand(ctx, op, "count", table.count, DType::kInt32, {table.count.size()});
  check_operand(ctx, op, "order", table.order, DType::kInt32,
                {table.count.size(), table.order.cols()});
}

}  // namespace

void mask_experts(const Context& ctx, const TagExperts& table, const TensorView& tags,
                  const TensorView& z) {
  const char* op = "mask_experts";
  check_float(op, "z", z, 2);
  check_operand(ctx, op, "z", z, z.dtype, z.shape);
  check_table(ctx, op, table, tags, z.rows());
  const std::int64_t experts = z.cols();
  WITAN_CHECK(table.order.cols() == experts, op, ": a table for ", table.order.cols(), " of ",
              experts, " experts");
  if (ctx.device.is_cuda()) return cuda::mask_experts(ctx, table, tags, z);
  check_indices(op, "tags", tags, 0, table.count.size());
  const auto* tag = tags.as<std::int32_t>();
  dispatch_float(z.dtype, op, [&](auto zero) {
    using T = decltype(zero);
    for (std::int64_t t = 0; t < z.rows(); ++t) {
      T* row = z.as<T>() + t * experts;
      const std::int32_t* order = table.order.as<std::int32_t>() + tag[t] * experts;
      for (std::int64_t i = table.count.as<std::int32_t>()[tag[t]]; i < experts; ++i) {
        row[order[i]] = -std::numeric_limits<T>::infinity();
      }
    }
  });
}

void mask_like(const Context& ctx, const TensorView& z, const TensorView& x) {
  const char* op = "mask_like";
  check_float(op, "z", z, 2);
  check_operand(ctx, op, "z", z, z.dtype, z.shape);
  check_float(op, "x", x, 2);
  check_operand(ctx, op, "x", x, x.dtype, z.shape);
  if (ctx.device.is_cuda()) return cuda::mask_like(ctx, z, x);
  dispatch_float(z.dtype, op, [&](auto of_z) {
    const auto* logit = z.as<decltype(of_z)>();
    dispatch_float(x.dtype, op, [&](auto of_x) {
      using T = decltype(of_x);
      T* value = x.as<T>();
      for (std::int64_t i = 0; i < x.size(); ++i) {
        if (logit[i] == -std::numeric_limits<decltype(of_z)>::infinity()) {
          value[i] = -std::numeric_limits<T>::infinity();
        }
      }
    });
  });
}

void tag_choices(const Context& ctx, const TagExperts& table, const TensorView& tags,
                 const TensorView& tokens, const TensorView& ranks, const TensorView& indices) {
  const char* op = "tag_choices";
  check_operand(ctx, op, "indices", indices, DType::kInt32, {indices.rows(), indices.cols()});
  check_table(ctx, op, table, tags, indices.rows());
  if (!ranks.empty()) {
    check_operand(ctx, op, "tokens", tokens, DType::kInt32, {indices.rows()});
    check_operand(ctx, op, "ranks", ranks, DType::kInt32, {ranks.size()});
  }
  if (ctx.device.is_cuda()) {
    return cuda::tag_choices(ctx, table, tags, tokens, ranks, indices);
  }
  check_indices(op, "tags", tags, 0, table.count.size());
  if (!ranks.empty()) check_indices(op, "tokens", tokens, 0, ranks.size());
  const std::int64_t top_k = indices.cols();
  const auto* tag = tags.as<std::int32_t>();
  auto* index = indices.as<std::int32_t>();
  for (std::int64_t t = 0; t < indices.rows(); ++t, index += top_k) {
    const std::int32_t* order = table.order.as<std::int32_t>() + tag[t] * table.order.cols();
    const std::int64_t count = table.count.as<std::int32_t>()[tag[t]];
    const std::int64_t first =
        ranks.empty() ? 0 : ranks.as<std::int32_t>()[tokens.as<std::int32_t>()[t]] * top_k;
    for (std::int64_t j = 0; j < top_k; ++j) {
      index[j] = j < count ? order[(first + j) % count] : kNoChoice;
    }
  }
}

}  // namespace witan::ops

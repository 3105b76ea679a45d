#include "core/ops/capacity.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"
#include "core/ops/cpu/scratch.h"
#include "core/ops/cuda/capacity.h"
#include "core/ops/dispatch.h"
#include "core/ops/index_check.h"
#include "core/ops/topk.h"

namespace witan::ops {
namespace {

// Memory for the order: pairs and tokens by who comes first, places taken.
struct Order {
  std::int64_t *pairs, *tokens, *taken;  // [tokens * top_k], [tokens], [experts]
};

// pairs: indices into `chosen`.
template <class T>
void order_pairs(Priority priority, std::int64_t top_k, const T* weight, const TensorView& s,
                 const Order& order) {
  const std::int64_t tokens = s.rows();
  std::iota(order.pairs, order.pairs + tokens * top_k, 0);
  if (priority == Priority::kTokenMajor) return;
  if (priority == Priority::kWeight) {
    std::stable_sort(order.pairs, order.pairs + tokens * top_k,
                     [&](std::int64_t a, std::int64_t b) { return weight[a] > weight[b]; });
    return;
  }
  std::iota(order.tokens, order.tokens + tokens, 0);
  if (priority == Priority::kBestScore) {
    const T* score = s.as<T>();
    const std::int64_t columns = s.cols();
    const auto best = [&](std::int64_t t) {
      return *std::max_element(score + t * columns, score + (t + 1) * columns);
    };
    std::stable_sort(order.tokens, order.tokens + tokens,
                     [&](std::int64_t a, std::int64_t b) { return best(a) > best(b); });
  }
  for (std::int64_t place = 0; place < tokens * top_k; ++place) {
    order.pairs[place] = order.tokens[place % tokens] * top_k + place / tokens;
  }
}

}  // namespace

void keep_places(const Context& ctx, const ExpertPlaces& places, const TensorView& chosen,
                 const TensorView& weights, const TensorView& s, const TensorView& kept) {
  const char* op = "keep_places";
  check_float(op, "s", s, 2);
  check_operand(ctx, op, "s", s, s.dtype, s.shape);
  check_operand(ctx, op, "chosen", chosen, DType::kInt32, {s.rows(), chosen.cols()});
  check_operand(ctx, op, "weights", weights, s.dtype, chosen.shape);
  check_operand(ctx, op, "kept", kept, DType::kInt32, chosen.shape);
  WITAN_CHECK(places.experts > 0 && places.experts <= s.cols(), op, ": ", places.experts, " of ",
              s.cols(), " experts have places");
  WITAN_CHECK(chosen.size() == 0 || kept.data != chosen.data, op, ": kept may not be chosen");
  if (ctx.device.is_cuda()) return cuda::keep_places(ctx, places, chosen, weights, s, kept);
  check_indices(op, "chosen", chosen, kNoChoice, s.cols());
  auto* memory = cpu::scratch_of<std::int64_t>(chosen.size() + s.rows() + places.experts);
  const Order order{memory, memory + chosen.size(), memory + chosen.size() + s.rows()};
  dispatch_float(s.dtype, op, [&](auto type) {
    order_pairs(places.priority, chosen.cols(), weights.as<decltype(type)>(), s, order);
  });
  std::fill_n(order.taken, places.experts, 0);
  const auto* expert = chosen.as<std::int32_t>();
  auto* out = kept.as<std::int32_t>();
  for (std::int64_t i = 0; i < chosen.size(); ++i) {
    const std::int64_t pair = order.pairs[i];
    out[pair] = expert[pair];
    if (expert[pair] == kNoChoice || expert[pair] >= places.experts) continue;
    if (order.taken[expert[pair]]++ >= places.each) out[pair] = kNoChoice;
  }
}

}  // namespace witan::ops

#include "core/ops/expert_choice.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>
#include <vector>

#include "core/base/error.h"
#include "core/ops/cpu/scratch.h"
#include "core/ops/cuda/expert_choice.h"
#include "core/ops/dispatch.h"
#include "core/ops/topk.h"

namespace witan::ops {
namespace {

// Whole numbers in the order of the scores: also for NaN, which has no place among numbers.
std::uint32_t key_of(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x + 0.0F);  // -0 becomes 0
  return (bits >> 31) != 0 ? ~bits : bits | (std::uint32_t{1} << 31);
}
std::uint64_t key_of(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x + 0.0);
  return (bits >> 63) != 0 ? ~bits : bits | (std::uint64_t{1} << 63);
}

// visit(token) for the `count` largest of one expert's keys, ties to the earlier token; ascending.
template <class T, class Key, class Visit>
void visit_largest(const std::vector<Key>& keys, std::int64_t count, std::vector<Key>& work,
                   Visit&& visit) {
  if (count == 0) return;
  work = keys;
  const auto last = work.begin() + count - 1;
  std::nth_element(work.begin(), last, work.end(), std::greater<>());
  const Key threshold = *last;
  const Key barred = key_of(-std::numeric_limits<T>::infinity());
  std::int64_t equal = std::count(work.begin(), last + 1, threshold);
  for (std::size_t token = 0; token < keys.size(); ++token) {
    if (keys[token] <= barred || keys[token] < threshold ||
        (keys[token] == threshold && equal-- <= 0))
      continue;
    visit(static_cast<std::int64_t>(token));
  }
}

// chosen [own, experts], zeroed before: 1 where the expert takes the token first + row.
template <class T>
void choose(const TensorView& s, std::int64_t each, std::int64_t first, std::int64_t own,
            std::uint8_t* chosen) {
  const std::int64_t tokens = s.rows();
  const std::int64_t experts = s.cols();
  const T* score = s.as<T>();
#pragma omp parallel
  {
    std::vector<decltype(key_of(T{}))> keys(static_cast<std::size_t>(tokens)), work;
#pragma omp for schedule(static)
    for (std::int64_t e = 0; e < experts; ++e) {
      for (std::size_t t = 0; t < keys.size(); ++t) {
        keys[t] = key_of(score[static_cast<std::int64_t>(t) * experts + e]);
      }
      visit_largest<T>(keys, each, work, [&](std::int64_t t) {
        if (t >= first && t < first + own) chosen[(t - first) * experts + e] = 1;
      });
    }
  }
}

}  // namespace

void expert_choice(const Context& ctx, const TensorView& s, std::int64_t each, std::int64_t first,
                   const TensorView& indices) {
  const char* op = "expert_choice";
  check_float(op, "s", s, 2);
  check_operand(ctx, op, "s", s, s.dtype, s.shape);
  const std::int64_t experts = s.cols();
  const std::int64_t own = indices.rows();
  check_operand(ctx, op, "indices", indices, DType::kInt32, {own, experts});
  WITAN_CHECK(each >= 0 && each <= s.rows(), op, ": ", each, " of ", s.rows(), " tokens");
  WITAN_CHECK(first >= 0 && first + own <= s.rows(), op, ": tokens ", first, " .. ", first + own,
              " of ", s.rows());
  if (ctx.device.is_cuda()) return cuda::expert_choice(ctx, s, each, first, indices);
  auto* chosen = cpu::scratch_of<std::uint8_t>(indices.size());
  std::fill_n(chosen, indices.size(), std::uint8_t{0});
  dispatch_float(s.dtype, op,
                 [&](auto zero) { choose<decltype(zero)>(s, each, first, own, chosen); });
  auto* index = indices.as<std::int32_t>();
  std::fill_n(index, indices.size(), kNoChoice);
  for (std::int64_t t = 0; t < own; ++t) {
    std::int32_t* next = index + t * experts;
    for (std::int64_t e = 0; e < experts; ++e) {
      if (chosen[t * experts + e] != 0) *next++ = static_cast<std::int32_t>(e);
    }
  }
}

}  // namespace witan::ops

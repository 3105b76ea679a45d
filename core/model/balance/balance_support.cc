#include <cmath>
#include <numbers>

#include "core/model/balance/balancer.h"
#include "core/ops/balance.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/ops/upload.h"

namespace witan {

void open_gradient(const Context& ctx, const TensorView& like, Arena& scratch, TensorView& x) {
  if (!x.empty()) return;
  if (like.size() == 0) {  // nothing to add to, but of the right type
    x = like;
    return;
  }
  x = scratch.allocate(like.shape, like.dtype, "balancing gradient");
  ops::fill(ctx, x, 0.0);
}

double scheduled(double coefficient, const configs::CoefficientSchedule& schedule,
                 double progress) {
  using configs::CoefficientSchedule;
  const double lost = 1.0 - schedule.to();  // at the end
  switch (schedule.kind()) {
    case CoefficientSchedule::LINEAR: return coefficient * (1.0 - lost * progress);
    case CoefficientSchedule::COSINE:
      return coefficient * (1.0 - lost * 0.5 * (1.0 - std::cos(std::numbers::pi * progress)));
    case CoefficientSchedule::STEP:
      return progress < schedule.at() ? coefficient : coefficient * schedule.to();
    default: return coefficient;
  }
}

TensorView loss_of(const BalanceInput& input, double& value) {
  return input.device_loss.empty() ? view_of(&value, {1}) : input.device_loss;
}

double add_probability_loss(const Context& ctx, const BalanceInput& input, const TensorView& s,
                            std::span<const double> f, const TensorView& ds, Arena& scratch) {
  ArenaScope scope(scratch);
  const auto experts = static_cast<std::int64_t>(f.size());
  const TensorView factors = scratch.allocate({2, experts}, s.dtype, "balancing");
  dispatch_float(s.dtype, "balancing", [&](auto zero) {
    using T = decltype(zero);
    thread_local std::vector<T> values;  // f, then its part of the gradient; keeps its capacity
    values.clear();
    for (const double x : f) values.push_back(static_cast<T>(x));
    for (const double x : f) values.push_back(static_cast<T>(x * input.gradient_scale));
    ops::upload(ctx, view_of(values.data(), factors.shape), factors);
  });
  const auto row = [&](std::int64_t i) { return factors.slice_rows(i, 1).reshape({experts}); };
  const TensorView unrounded = view_of(f.data(), {experts});
  return add_probability_loss(ctx, input, s, s.device.is_cpu() ? unrounded : row(0), row(1), ds,
                              scratch);
}

double add_probability_loss(const Context& ctx, const BalanceInput& input, const TensorView& s,
                            const TensorView& f, const TensorView& coefficient,
                            const TensorView& ds, Arena& scratch) {
  ArenaScope scope(scratch);
  const TensorView p_sum = scratch.allocate(f.shape, s.dtype, "balancing");
  ops::router_probability_sums(ctx, input.score, s, p_sum);
  double value = 0.0;
  ops::add_dot(ctx, 1.0, f, p_sum, loss_of(input, value));
  ops::router_probability_backward(ctx, input.score, s, coefficient, ds);
  return value;
}

double add_cv2_loss(const Context& ctx, const BalanceInput& input, double coefficient, bool global,
                    const TensorView& sums) {
  const auto tokens = static_cast<double>(input.router.s.rows());
  ops::fill(ctx, sums.slice_rows(input.experts, 1), tokens);
  if (global) input.all_ranks->sum(ctx, sums);
  double value = 0.0;
  ops::cv2_loss(ctx, coefficient * tokens, sums, loss_of(input, value));
  return value;
}

}  // namespace witan

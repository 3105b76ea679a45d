#include <cmath>
#include <numbers>

#include "core/model/balance/balancer.h"
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

double add_probability_loss(const Context& ctx, const BalanceInput& input, const TensorView& s,
                            std::span<const double> f, const TensorView& ds, Arena& scratch) {
  ArenaScope scope(scratch);
  const auto experts = static_cast<std::int64_t>(f.size());
  const TensorView p_sum = scratch.allocate({experts}, s.dtype, "balancing");
  const TensorView factors = scratch.allocate({2, experts}, s.dtype, "balancing");
  ops::router_probability_sums(ctx, input.score, s, p_sum);
  double value = 0.0;
  dispatch_float(s.dtype, "balancing", [&](auto zero) {
    using T = decltype(zero);
    thread_local std::vector<T> values;  // f, then its part of the gradient; keeps its capacity
    values.clear();
    for (const double x : f) values.push_back(static_cast<T>(x));
    for (const double x : f) values.push_back(static_cast<T>(x * input.gradient_scale));
    ops::upload(ctx, view_of(values.data(), factors.shape), factors);
    for (std::int64_t i = 0; i < experts && s.device.is_cpu(); ++i) {
      value += f[static_cast<std::size_t>(i)] * static_cast<double>(p_sum.as<T>()[i]);
    }
  });
  const auto row = [&](std::int64_t i) { return factors.slice_rows(i, 1).reshape({experts}); };
  if (!s.device.is_cpu()) ops::add_dot(ctx, 1.0, row(0), p_sum, input.device_loss);
  ops::router_probability_backward(ctx, input.score, s, row(1), ds);
  return value;
}

double cv2_with_gradient(std::span<double> x) {
  const auto n = static_cast<double>(x.size());
  double mean = 0.0;
  for (const double value : x) mean += value / n;
  double variance = 0.0;
  for (const double value : x) variance += (value - mean) * (value - mean) / n;
  const bool zero = mean == 0.0;
  for (double& value : x) {
    value = zero ? 0.0 : 2.0 * (value - mean - variance / mean) / (n * mean * mean);
  }
  return zero ? 0.0 : variance / (mean * mean);
}

std::vector<double>& Cv2OfSums::begin(std::int64_t experts) {
  sums_.assign(static_cast<std::size_t>(experts), 0.0);
  return sums_;
}

double Cv2OfSums::finish(std::int64_t tokens, RankGroup* all_ranks) {
  auto summed = static_cast<double>(tokens);
  if (all_ranks != nullptr) {
    sums_.push_back(summed);
    all_ranks->sum(sums_);
    summed = sums_.back();
    sums_.pop_back();
  }
  const double value = cv2_with_gradient(sums_);
  for (double& gradient : sums_) gradient *= summed;
  return value;
}

}  // namespace witan

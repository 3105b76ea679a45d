// Gradients by hand against central differences.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/base/rng.h"
#include "core/tensor/host_twin.h"
#include "launch/verify/checks.h"
#include "launch/verify/compare.h"

namespace witan {
namespace {

// With Richardson's extrapolation the truncation is of the fourth order, so that the step can be
// large against rounding.
constexpr double kStep = 1e-3;
constexpr double kSmallestStep = 1e-7;
// The differences at a step and half of it, where the loss is smooth.
constexpr double kSmooth = 1e-4;
constexpr double kTolerance = 1e-6;
// The slope of ReLU and of a clamp jumps where some activation of some token always is close to.
constexpr double kKinkTolerance = 1e-3;
// Derivatives are compared with the largest of themselves, their tensor's average element and this
// share of the average over all tensors.
constexpr double kLeast = 1e-3;

// The loss around one point in the space of weights.
class Surroundings {
 public:
  explicit Surroundings(VerifySession& session) : session_(session) {}

  // Of the loss, along `direction` [elements of the tensor], of norm 1.
  double derivative(const TensorView& value, const std::vector<double>& direction, double least) {
    const HostTwin twin(session_.params().context(), value);
    const double* data = twin.read().view().as<double>();
    start_.assign(data, data + value.size());
    double result = 0.0;
    for (double step = kStep; step >= kSmallestStep; step /= 8.0) {
      const double wide = difference(twin, direction, step);
      const double narrow = difference(twin, direction, step / 2.0);
      result = (4.0 * narrow - wide) / 3.0;
      if (std::abs(narrow - wide) <= kSmooth * std::max(std::abs(narrow), least)) break;
    }
    std::copy(start_.begin(), start_.end(), twin.view().as<double>());
    twin.write_back();
    return result;
  }

 private:
  double difference(const HostTwin& twin, const std::vector<double>& direction, double step) {
    const double above = loss_at(twin, direction, step);
    const double below = loss_at(twin, direction, -step);
    return (above - below) / (2.0 * step);
  }
  double loss_at(const HostTwin& twin, const std::vector<double>& direction, double step) {
    auto* data = twin.view().as<double>();
    for (std::size_t i = 0; i < start_.size(); ++i) data[i] = start_[i] + step * direction[i];
    twin.write_back();
    return session_.trainer().gradients(false).objective();
  }

  VerifySession& session_;
  std::vector<double> start_;
};

std::vector<double> unit(std::size_t size, std::size_t at) {
  std::vector<double> direction(size, 0.0);
  direction[at] = 1.0;
  return direction;
}

std::vector<double> random_direction(const std::string& name, std::size_t size) {
  const Random random(1, "verify/direction", name);
  std::vector<double> direction(size);
  double squares = 0.0;
  for (std::size_t i = 0; i < size; ++i) {
    direction[i] = random.normal(i);
    squares += direction[i] * direction[i];
  }
  for (double& x : direction) x /= std::sqrt(squares);
  return direction;
}

std::vector<std::vector<double>> directions_of(const std::string& name,
                                               const std::vector<double>& gradient) {
  const auto largest = std::max_element(gradient.begin(), gradient.end(), [](double a, double b) {
    return std::abs(a) < std::abs(b);
  });
  const Random random(1, "verify/element", name);
  return {unit(gradient.size(), static_cast<std::size_t>(largest - gradient.begin())),
          unit(gradient.size(), random.below(0, gradient.size())),
          random_direction(name, gradient.size())};
}

double average(const std::vector<double>& gradient) {
  double squares = 0.0;
  for (const double g : gradient) squares += g * g;
  return std::sqrt(squares / static_cast<double>(gradient.size()));
}

// By id; divided by the loss tokens, as the losses are.
std::vector<std::vector<double>> copy_gradients(VerifySession& session) {
  std::vector<std::vector<double>> all(static_cast<std::size_t>(session.table().size()));
  for (int id = 0; id < session.table().size(); ++id) {
    if (!session.table()[id].trained()) continue;
    const HostTwin twin(session.params().context(), session.params().grad(id));
    const TensorView& grad = twin.read().view();
    std::vector<double>& copy = all[static_cast<std::size_t>(id)];
    for (std::int64_t i = 0; i < grad.size(); ++i) {
      copy.push_back(grad.as<double>()[i] / session.trainer().loss_tokens());
    }
  }
  return all;
}

double error_of(const std::vector<double>& gradient, const std::vector<double>& direction,
                double numeric, double least) {
  double by_hand = 0.0;
  for (std::size_t i = 0; i < gradient.size(); ++i) by_hand += gradient[i] * direction[i];
  const double scale = std::max({std::abs(by_hand), average(gradient), least});
  if (by_hand == numeric) return 0.0;
  const double error = std::abs(by_hand - numeric) / scale;
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

// The tensors of this rank.
void compare_differences(const VerifyContext& context, VerifySession& session, Errors& errors) {
  const std::vector<std::vector<double>> gradients = copy_gradients(session);
  std::vector<double> everything;
  for (const auto& g : gradients) everything.insert(everything.end(), g.begin(), g.end());
  const double least = kLeast * average(everything);
  Surroundings surroundings(session);
  for (int id = 0; id < session.table().size(); ++id) {
    const std::vector<double>& gradient = gradients[static_cast<std::size_t>(id)];
    if (gradient.empty() || id % context.ranks() != context.world.rank()) continue;
    for (const std::vector<double>& direction : directions_of(session.table()[id].name, gradient)) {
      const double numeric = surroundings.derivative(session.params().value(id), direction, least);
      errors.tensor(id, error_of(gradient, direction, numeric, least), 1);
    }
  }
}

}  // namespace

std::vector<CheckResult> check_gradients(const VerifyContext& context) {
  const Mesh alone = context.alone();
  const std::string choices = context.own_file("gradients");
  configs::RunConfig run = gradient_config(context.run, configs::RuntimeConfig::FLOAT64);
  record_routing(run, choices);
  {
    VerifySession recorder(run, alone, context.runtime);
    recorder.wake();
    compute_gradients(recorder);
  }
  replay_routing(run, choices);
  VerifySession session(run, alone, context.runtime);
  session.wake();
  compute_gradients(session);
  if (context.hooks.after_gradients) context.hooks.after_gradients("gradients", session.params());

  CheckResult result;
  result.check = "gradients";
  result.variant = "float64, against differences";
  const configs::MoeConfig& moe = context.run.model().moe();
  const bool kinks = moe.expert_kind() == configs::MoeConfig::RELU || moe.swiglu().clamp() > 0.0;
  result.tolerance = kinks ? kKinkTolerance : kTolerance;
  Errors errors(session.table());
  compare_differences(context, session, errors);
  errors.agree(context.world);
  errors.report(result);
  return {result};
}

}  // namespace witan

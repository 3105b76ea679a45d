#include "launch/verify/compare.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/tensor/host_twin.h"
#include "core/tensor/tensor.h"

namespace witan {
namespace {

// Gradients below this share of the average one are rounding of larger things.
constexpr double kNextToNothing = 1e-3;

struct Difference {
  double difference = 0.0;  // norm of found - expected
  double expected = 0.0;    // norm
  // NaN is as far off as it gets.
  double relative(double least) const {
    const double error = difference / std::max(expected, least);
    if (difference == 0.0) return 0.0;
    return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
  }
};

double element(const TensorView& x, std::int64_t i) {
  return x.dtype == DType::kFloat64 ? x.as<double>()[i] : static_cast<double>(x.as<float>()[i]);
}

Difference difference_of(const TensorView& found, const TensorView& expected) {
  WITAN_CHECK(found.size() == expected.size(), "comparing ", found.shape.to_string(), " with ",
              expected.shape.to_string());
  Difference result;
  for (std::int64_t i = 0; i < found.size(); ++i) {
    const double b = element(expected, i);
    const double d = element(found, i) - b;
    result.difference += d * d;
    result.expected += b * b;
  }
  result.difference = std::sqrt(result.difference);
  result.expected = std::sqrt(result.expected);
  return result;
}

// 0 for the same bits; else above 0, whatever the values are.
double bit_error(const TensorView& found, const TensorView& expected) {
  WITAN_CHECK(found.bytes() == expected.bytes(), "comparing ", found.bytes(), " bytes with ",
              expected.bytes());
  if (found.bytes() == 0 || std::memcmp(found.data, expected.data, found.bytes()) == 0) return 0.0;
  return std::max(difference_of(found, expected).relative(0.0), std::numeric_limits<double>::min());
}

double relative(double found, double expected) {
  if (found == expected) return 0.0;
  const double error = std::abs(found - expected) / std::abs(expected);
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

// Average size of a gradient's element.
double average_gradient(const ParamStore& whole) {
  double squares = 0.0;
  std::int64_t count = 0;
  for (int id = 0; id < whole.table().size(); ++id) {
    if (!whole.table()[id].trained()) continue;
    const HostTwin twin(whole.context(), whole.grad(id));
    const TensorView& grad = twin.read().view();
    for (std::int64_t i = 0; i < grad.size(); ++i) squares += element(grad, i) * element(grad, i);
    count += grad.size();
  }
  return std::sqrt(squares / static_cast<double>(std::max<std::int64_t>(count, 1)));
}

// A tensor's place in a flat buffer of its group.
TensorView in_flat(const ParamStore& params, ParamGroup group, int id, const TensorView& flat) {
  const auto& spans = params.spans(group);
  const auto span = std::find_if(spans.begin(), spans.end(),
                                 [id](const ParamSpan& candidate) { return candidate.id == id; });
  return flat.slice_rows(span->begin, span->size).reshape(params.value(id).shape);
}

}  // namespace

Errors::Errors(const ParamTable& table)
    : table_(table), tensors_(static_cast<std::size_t>(table.size()), 0.0) {}

void Errors::tensor(int id, double error, std::int64_t compared) {
  double& largest = tensors_[static_cast<std::size_t>(id)];
  largest = std::max(largest, error);
  compared_ += compared;
}

void Errors::figure(const std::string& name, double error) { figures_.emplace_back(name, error); }

void Errors::agree(Communicator& world) {
  std::vector<double> message = tensors_;
  for (const auto& [name, error] : figures_) message.push_back(error);
  world
      .all_reduce(view_of(message.data(), {static_cast<std::int64_t>(message.size())}),
                  ReduceOp::kMax)
      .wait();
  std::copy_n(message.begin(), tensors_.size(), tensors_.begin());
  for (std::size_t i = 0; i < figures_.size(); ++i) {
    figures_[i].second = message[tensors_.size() + i];
  }
  world.all_reduce(view_of(&compared_, {1}), ReduceOp::kSum).wait();
}

void Errors::report(CheckResult& result) const {
  const auto worst = std::max_element(tensors_.begin(), tensors_.end());
  if (worst != tensors_.end() && (result.worst.empty() || *worst > result.error)) {
    result.error = *worst;
    result.worst = table_[static_cast<int>(worst - tensors_.begin())].name;
  }
  for (const auto& [name, error] : figures_) {
    if (error <= result.error) continue;
    result.error = error;
    result.worst = name;
  }
  result.compared += compared_;
}

TensorView part_of(const ParamInfo& info, const TensorView& whole, const ParamStore& mine) {
  const ParamStore::Layout& layout = mine.layout();
  if (info.role != ParamRole::kExpert || whole.rows() == layout.local_experts) return whole;
  return whole.slice_rows(layout.first_expert, layout.local_experts);
}

void compare_gradients(const ParamStore& found, const ParamStore& whole, Errors& errors) {
  const double average = average_gradient(whole);
  for (int id = 0; id < found.table().size(); ++id) {
    const ParamInfo& info = found.table()[id];
    if (!info.trained()) continue;
    const HostTwin mine(found.context(), found.grad(id));
    const HostTwin other(whole.context(), part_of(info, whole.grad(id), found));
    const std::int64_t size = mine.view().size();
    const double least = kNextToNothing * average * std::sqrt(static_cast<double>(size));
    errors.tensor(id, difference_of(mine.read().view(), other.read().view()).relative(least), size);
  }
}

void compare_values(const ParamStore& found, const ParamStore& whole, Errors& errors) {
  for (int id = 0; id < found.table().size(); ++id) {
    const HostTwin mine(found.context(), found.value(id));
    const HostTwin other(whole.context(), part_of(found.table()[id], whole.value(id), found));
    errors.tensor(id, bit_error(mine.read().view(), other.read().view()), mine.view().size());
  }
}

void compare_moments(const ParamStore& found, ShardedAdamW& found_optimizer,
                     const ParamStore& whole, ShardedAdamW& whole_optimizer, Errors& errors) {
  constexpr int kMoments = 2;
  for (const ParamGroup group : {ParamGroup::kDense, ParamGroup::kExpert}) {
    const Tensor mine(found.flat_values(group).shape, found.dtype());
    const Tensor all(whole.flat_values(group).shape, whole.dtype());
    for (int moment = 0; moment < kMoments; ++moment) {
      found_optimizer.gather_moment(moment, group, mine);
      whole_optimizer.gather_moment(moment, group, all);
      for (const ParamSpan& span : found.spans(group)) {
        const TensorView a = in_flat(found, group, span.id, mine);
        const TensorView b = in_flat(whole, group, span.id, all);
        errors.tensor(span.id, bit_error(a, part_of(found.table()[span.id], b, found)), a.size());
      }
    }
  }
}

void compare_losses(const StepMetrics& found, const StepMetrics& expected, Errors& errors) {
  errors.figure("loss", relative(found.loss, expected.loss));
  errors.figure("router loss", relative(found.router_loss, expected.router_loss));
  errors.figure("multi-token prediction loss", relative(found.mtp_loss, expected.mtp_loss));
}

void compare_steps(const StepMetrics& found, const StepMetrics& expected, Errors& errors) {
  const std::string step = " of step " + std::to_string(expected.step);
  errors.figure("loss" + step, relative(found.loss, expected.loss));
  errors.figure("router loss" + step, relative(found.router_loss, expected.router_loss));
  errors.figure("multi-token prediction loss" + step, relative(found.mtp_loss, expected.mtp_loss));
  errors.figure("gradient norm" + step, relative(found.grad_norm, expected.grad_norm));
  double counts = 0.0;
  for (std::size_t i = 0; i < expected.layers.size(); ++i) {
    if (found.layers[i].counts != expected.layers[i].counts) counts = 1.0;
  }
  errors.figure("expert counts" + step, counts);
}

}  // namespace witan

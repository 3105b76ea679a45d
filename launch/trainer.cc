#include "launch/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>

#include "core/base/error.h"
#include "core/base/profile.h"
#include "optim/lr_schedule.h"

namespace witan {
namespace {

// Seconds since the last call.
class Lap {
 public:
  double operator()() {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

std::string state_key(const char* what, int layer, std::size_t balancer) {
  return "layers." + std::to_string(layer) + "." + what + "." + std::to_string(balancer);
}

}  // namespace

Trainer::Trainer(const configs::RunConfig& run, Engine& engine, const SampleStream& stream,
                 std::int32_t end_of_document)
    : run_(run),
      engine_(engine),
      stream_(stream),
      end_of_document_(end_of_document),
      per_rank_(run.train().global_batch() / engine.mesh().world_size()),
      micro_batch_(run.train().has_micro_batch() ? run.train().micro_batch() : per_rank_),
      optimizer_(run.optimizer(), engine.params(), engine.mesh(), engine.runtime().ctx),
      metrics_(engine.model().moe_layers(), engine.model().mtp_stats(), engine.mesh().world()) {
  const std::int64_t micro_batches = per_rank_ / micro_batch_;
  batches_.resize(static_cast<std::size_t>(micro_batches));
  previous_counts_.resize(engine.model().moe_layers().size());
  for (const MoeLayer* layer : engine.model().moe_layers()) {
    for (const auto& balancer : layer->balancers()) {
      fractions_needed_ = fractions_needed_ || balancer->needs_global_fractions();
      fractions_exact_ = fractions_exact_ || balancer->needs_exact_fractions(micro_batches);
    }
  }
  const configs::RoutingConfig& routing = run.train().routing();
  if (routing.force_balanced()) {
    hook_ = std::make_unique<ForcedBalance>();
  } else if (routing.has_record() || routing.has_replay()) {
    const ModelDims& dims = engine.model().dims();
    std::vector<bool> is_moe = dims.is_moe;
    is_moe.resize(static_cast<std::size_t>(dims.all_layers()), dims.mtp_moe());
    const RoutingTrace::Shape shape{is_moe, run.train().global_batch() * run.data().seq_len(),
                                    dims.choices, dims.entries,
                                    run.model().moe().allowed_experts().ShortDebugString()};
    auto trace = std::make_unique<RoutingTrace>(
        routing.has_replay() ? RoutingTrace::Mode::kReplay : RoutingTrace::Mode::kRecord,
        routing.has_replay() ? routing.replay() : routing.record(), shape, engine.mesh().world());
    trace_ = trace.get();
    hook_ = std::move(trace);
  }
}

Trainer::~Trainer() { engine_.model().set_hook(nullptr); }

// Sequences [samples_, samples_ + global_batch) of the stream; rank r takes the r-th part, in
// order, micro-batch by micro-batch.
void Trainer::load_batches() {
  const ProfileScope profile("data");
  const std::int64_t seq_len = run_.data().seq_len();
  const std::int64_t first = per_rank_ * engine_.mesh().world_rank();
  loss_tokens_ = 0;
  for (std::size_t i = 0; i < batches_.size(); ++i) {
    const std::int64_t begin = first + static_cast<std::int64_t>(i) * micro_batch_;
    build_batch(
        run_.data(), seq_len, end_of_document_, micro_batch_, begin,
        [&](std::int64_t sequence, std::span<std::int32_t> window) {
          return stream_.train_sample(samples_ + begin + sequence, window);
        },
        batches_[i]);
    place_batch(engine_.runtime().ctx, batches_[i]);
    Batch& batch = batches_[i].batch;
    batch.even = true;
    batch.training = true;
    batch.seed = run_.train().seed();
    batch.step = step_;
    batch.micro_batch = static_cast<std::int64_t>(i);
    const std::int64_t last_step = run_.train().steps() - 1;
    batch.progress =
        last_step > 0 ? static_cast<double>(step_) / static_cast<double>(last_step) : 1;
    loss_tokens_ += batch.loss_tokens;
  }
  if (run_.data().mask_document_start()) {  // else every target counts
    engine_.mesh().world().all_reduce(view_of(&loss_tokens_, {1}), ReduceOp::kSum).wait();
  } else {
    loss_tokens_ = run_.train().global_batch() * seq_len;
  }
  loss_tokens_ = std::max<std::int64_t>(loss_tokens_, 1);
}

// Gradients of all micro-batches, accumulated; returns the sum of this rank's losses.
double Trainer::forward_backward() {
  Transformer& model = engine_.model();
  const double routed_tokens =
      static_cast<double>(run_.train().global_batch() * run_.data().seq_len());
  const double gradient_scale = static_cast<double>(loss_tokens_) / routed_tokens;
  const bool counts_first = fractions_exact_ && batches_.size() > 1;
  if (counts_first) {
    const ProfileScope profile("forward for the counts");
    for (const BatchBuffers& buffers : batches_) {
      model.forward(buffers.batch, Transformer::Mtp::kYes);
    }
    metrics_.reduce_fractions();
    for (MoeLayer* layer : model.moe_layers()) layer->stats().clear();
  }
  const bool overlaps = engine_.mesh().on_nccl() && run_.parallel().overlap_gradient_reduction();
  double loss = 0.0;
  for (const BatchBuffers& buffers : batches_) {
    {
      const ProfileScope profile("forward");
      model.forward_train(buffers.batch);
    }
    if (fractions_exact_ && !counts_first) metrics_.reduce_fractions();
    const ProfileScope profile("backward");
    std::function<void(int layer)> layer_done;
    if (overlaps && &buffers == &batches_.back()) {
      layer_done = [this](int layer) { optimizer_.reduce_layer(layer); };
    }
    loss += model.backward(
        buffers.batch, gradient_scale,
        &buffers == &batches_.front() ? ops::Accumulate::kNo : ops::Accumulate::kYes, layer_done);
  }
  return loss;
}

StepMetrics Trainer::gradients(bool stop) {
  StepMetrics metrics;
  PhaseSeconds seconds;
  Lap lap;
  engine_.model().set_hook(hook_.get());
  if (trace_ != nullptr) trace_->begin_step(step_);
  load_batches();
  seconds.data = lap();

  Communicator& exchange = engine_.mesh().expert();
  exchange.take_wait_seconds();
  optimizer_.zero_gradients(ParamGroup::kDense);  // the experts' are overwritten
  const double loss_sum = forward_backward();
  seconds.exchange = exchange.take_wait_seconds();
  seconds.compute = lap() - seconds.exchange;
  engine_.model().set_hook(nullptr);

  optimizer_.reduce_begin(ParamGroup::kExpert);
  optimizer_.reduce_begin(ParamGroup::kDense);
  optimizer_.reduce_end(ParamGroup::kExpert);
  optimizer_.reduce_end(ParamGroup::kDense);
  seconds.reduce = lap();

  metrics.tokens = run_.train().global_batch() * run_.data().seq_len();
  metrics_.reduce(loss_sum, stop, static_cast<double>(loss_tokens_),
                  static_cast<double>(metrics.tokens), seconds, metrics);
  if (!std::isfinite(metrics.loss + metrics.mtp_loss)) metrics.nonfinite = "loss";
  return metrics;
}

StepMetrics Trainer::step(bool stop) {
  const ProfileScope profile("step");
  Lap wall;
  StepMetrics metrics = gradients(stop);
  Lap lap;
  const double divisor = static_cast<double>(loss_tokens_);
  const ShardedAdamW::Norm norm = optimizer_.gradient_norm(divisor);
  metrics.grad_norm = norm.value;
  metrics.lr = learning_rate(run_.optimizer(), step_, run_.train().steps());
  if (metrics.nonfinite.empty()) metrics.nonfinite = norm.nonfinite;
  if (metrics.nonfinite.empty()) {
    optimizer_.step(step_, metrics.lr, norm.value, divisor);
    update_balance(metrics);
  } else {
    metrics.skipped = true;
  }
  ++step_;
  samples_ += run_.train().global_batch();
  metrics.step = step_;
  metrics.seconds.optimizer = lap();
  metrics.wall = wall();
  return metrics;
}

// Expert biases, and the counts that the next step's losses read.
void Trainer::update_balance(const StepMetrics& metrics) {
  const std::vector<MoeLayer*>& layers = engine_.model().moe_layers();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::vector<std::int64_t>& counts = metrics.layers[i].counts;
    const std::vector<std::int64_t>& by_tag = metrics.layers[i].tag_counts;
    const ExpertMask& mask = layers[i]->mask();
    for (const auto& balancer : layers[i]->balancers()) {
      balancer->after_step(step_, run_.train().steps(), mask.empty() ? counts : by_tag, mask,
                           layers[i]->expert_bias());
    }
    if (fractions_needed_ && !fractions_exact_) previous_counts_[i] = counts;
  }
  use_previous_counts();
}

void Trainer::use_previous_counts() {
  all_counts_.clear();
  for (const std::vector<std::int64_t>& counts : previous_counts_) {
    if (counts.empty()) return;  // no step before
    all_counts_.insert(all_counts_.end(), counts.begin(), counts.end());
  }
  set_global_fractions(engine_.model().moe_layers(), all_counts_);
}

TrainState Trainer::state() const {
  TrainState state;
  state.step = step_;
  state.samples = samples_;
  const std::vector<MoeLayer*>& layers = engine_.model().moe_layers();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (!previous_counts_[i].empty()) {
      state.counts[state_key("previous_counts", layers[i]->layer(), 0)] = previous_counts_[i];
    }
    for (std::size_t b = 0; b < layers[i]->balancers().size(); ++b) {
      const std::vector<std::int64_t>* counts = layers[i]->balancers()[b]->state();
      if (counts != nullptr) state.counts[state_key("balancer", layers[i]->layer(), b)] = *counts;
    }
  }
  return state;
}

void Trainer::restore(const TrainState& state) {
  step_ = state.step;
  samples_ = state.samples;
  const std::vector<MoeLayer*>& layers = engine_.model().moe_layers();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto previous = state.counts.find(state_key("previous_counts", layers[i]->layer(), 0));
    if (previous != state.counts.end()) previous_counts_[i] = previous->second;
    for (std::size_t b = 0; b < layers[i]->balancers().size(); ++b) {
      std::vector<std::int64_t>* counts = layers[i]->balancers()[b]->state();
      const auto saved = state.counts.find(state_key("balancer", layers[i]->layer(), b));
      if (counts != nullptr && saved != state.counts.end()) *counts = saved->second;
    }
  }
  use_previous_counts();
}

}  // namespace witan

#include "launch/metrics/step_metrics.h"

#include <algorithm>
#include <cmath>

#include "core/base/profile.h"

namespace witan {
namespace {

// A cursor over the message, so that packing and unpacking read alike.
class Cursor {
 public:
  explicit Cursor(std::vector<double>& message) : message_(message) {}
  void put(double value) { message_[at_++] = value; }
  double take() { return message_[at_++]; }

 private:
  std::vector<double>& message_;
  std::size_t at_ = 0;
};

}  // namespace

double LayerMetrics::zero_computation_share() const {
  std::int64_t total = 0, computed = 0;
  for (const std::int64_t n : counts) total += n;
  for (const std::int64_t n : computing_counts()) computed += n;
  return total > 0 ? static_cast<double>(total - computed) / static_cast<double>(total) : 0.0;
}

MetricsReducer::MetricsReducer(std::vector<MoeLayer*> layers, std::span<MtpStats> mtp,
                               Communicator& world)
    : layers_(std::move(layers)), mtp_(mtp), world_(world) {
  std::size_t size = 7 + 3 * mtp_.size();
  std::size_t counts = 0;
  for (const MoeLayer* layer : layers_) {
    const MoeStats& stats = layer->stats();
    size += stats.counts.size() + stats.losses.size() + 8;
    counts += static_cast<std::size_t>(layer->experts());
  }
  message_.resize(size);
  counts_.resize(counts);
}

void MetricsReducer::reduce(double loss_sum, bool stop, double loss_tokens, double routed_tokens,
                            const PhaseSeconds& seconds, StepMetrics& metrics) {
  const ProfileScope profile("metrics");
  Cursor out(message_);
  out.put(loss_sum);
  out.put(stop ? 1.0 : 0.0);
  for (const double s :
       {seconds.data, seconds.compute, seconds.exchange, seconds.reduce, seconds.optimizer}) {
    out.put(s);
  }
  for (MoeLayer* layer : layers_) layer->begin_reading_stats();
  for (MoeLayer* layer : layers_) {
    MoeStats& stats = layer->stats();
    for (const std::int64_t n : stats.counts) out.put(static_cast<double>(n));  // exact below 2^53
    for (const double loss : stats.losses) out.put(loss);
    out.put(static_cast<double>(stats.tokens));
    out.put(stats.top_weight);
    out.put(static_cast<double>(stats.dropped));
    out.put(static_cast<double>(stats.micro_batches));
    out.put(static_cast<double>(stats.rounds));
    out.put(static_cast<double>(stats.logits));
    out.put(stats.logit_square);
    out.put(stats.lse);
    stats.clear();
  }
  for (MtpStats& stats : mtp_) {
    out.put(stats.loss);
    out.put(stats.objective);
    out.put(static_cast<double>(stats.tokens));
    stats.clear();
  }
  world_
      .all_reduce(view_of(message_.data(), {static_cast<std::int64_t>(message_.size())}),
                  ReduceOp::kSum)
      .wait();

  Cursor in(message_);
  const double ranks = world_.size();
  metrics.loss = in.take() / loss_tokens;
  metrics.stop = in.take() > 0.0;
  metrics.seconds.data = in.take() / ranks;
  metrics.seconds.compute = in.take() / ranks;
  metrics.seconds.exchange = in.take() / ranks;
  metrics.seconds.reduce = in.take() / ranks;
  metrics.seconds.optimizer = in.take() / ranks;
  metrics.router_loss = 0.0;
  metrics.layers.resize(layers_.size());
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const MoeStats& stats = layers_[i]->stats();
    LayerMetrics& layer = metrics.layers[i];
    const auto experts = static_cast<std::size_t>(stats.experts);
    layer.layer = layers_[i]->layer();
    layer.computing = layers_[i]->computing_experts();
    layer.counts.assign(experts, 0);
    layer.tag_counts.resize(stats.counts.size());
    for (std::size_t j = 0; j < stats.counts.size(); ++j) {
      layer.tag_counts[j] = static_cast<std::int64_t>(in.take());
      layer.counts[j % experts] += layer.tag_counts[j];
    }
    layer.losses.resize(stats.losses.size());
    for (double& loss : layer.losses) {
      loss = in.take() / routed_tokens;
      metrics.router_loss += loss;
    }
    const double tokens = std::max(1.0, in.take());
    layer.top_weight = in.take() / tokens;
    layer.dropped = in.take();
    const double micro_batches = std::max(1.0, in.take());
    layer.rounds = in.take() / micro_batches;
    const double logits = std::max(1.0, in.take());
    layer.logit_rms = std::sqrt(in.take() / logits);
    layer.lse = in.take() / tokens;
  }
  metrics.mtp_loss = 0.0;
  metrics.mtp_losses.resize(mtp_.size());
  for (double& loss : metrics.mtp_losses) {
    const double sum = in.take();
    metrics.mtp_loss += in.take() / loss_tokens;
    loss = sum / std::max(1.0, in.take());
  }
}

void MetricsReducer::reduce_fractions() {
  const ProfileScope profile("expert counts");
  std::size_t at = 0;
  for (const MoeLayer* layer : layers_) {
    const std::span<const std::int64_t> counts = layer->counts();
    const auto experts = static_cast<std::size_t>(layer->experts());
    for (std::size_t i = 0; i < experts; ++i) {
      counts_[at + i] = 0;
      for (std::size_t j = i; j < counts.size(); j += experts) counts_[at + i] += counts[j];
    }
    at += experts;
  }
  world_
      .all_reduce(view_of(counts_.data(), {static_cast<std::int64_t>(counts_.size())}),
                  ReduceOp::kSum)
      .wait();
  set_global_fractions(layers_, counts_);
}

void set_global_fractions(std::span<MoeLayer* const> layers, std::span<const std::int64_t> counts) {
  for (std::size_t l = 0; l < layers.size(); ++l) {
    std::vector<double>& fractions = layers[l]->global_fractions();
    const std::size_t experts = fractions.size();
    const bool pools = layers[l]->pools_layers();
    std::fill(fractions.begin(), fractions.end(), 0.0);
    double total = 0.0;
    for (std::size_t i = pools ? 0 : l * experts; i < (pools ? counts.size() : (l + 1) * experts);
         ++i) {
      const auto n = static_cast<double>(counts[i]);
      fractions[i % experts] += n;
      total += n;
    }
    if (total == 0.0) continue;
    for (double& fraction : fractions) fraction /= total;
  }
}

}  // namespace witan

#include "launch/plan/step_time.h"

#include <algorithm>

#include "core/model/param_placement.h"
#include "launch/plan/activations.h"

namespace witan {
namespace {

// A fused backward of attention computes the scores again: five products where the forward has two.
constexpr double kAttentionBackward = 2.5;
// What a layer's forward writes is read once there; the backward reads it, and writes and reads its
// gradient.
constexpr double kForwardPasses = 2.0, kBackwardPasses = 3.0;
// Logits: written, turned into their gradient (read and written), read by two products.
constexpr double kLogitPasses = 5.0;
// Weight and two moments are read and written, the gradient is read for its norm and for the
// update.
constexpr double kUpdatePasses = 8.0;

class StepClock {
 public:
  StepClock(const PlanSubject& subject, const PlanLayout& layout,
            const configs::MachineConfig& machine, double imbalance)
      : subject_(subject),
        layout_(layout),
        machine_(machine),
        imbalance_(layout.expert_parallel == 1 ? 1.0 : imbalance),
        rows_(routed_rows(subject, layout, imbalance)),
        times_(static_cast<double>(layout.micro_batches)),
        precision_(subject.run.runtime().precision()) {}

  StepTime measure() {
    products();
    attention_scores();
    memory_bound();
    exchange();
    gradients();
    optimizer();
    finish();
    return std::move(time_);
  }

 private:
  void add(const std::string& part, double seconds) {
    if (seconds <= 0.0) return;
    for (TimePart& entry : time_.parts) {
      if (entry.part == part) {
        entry.seconds += seconds;
        return;
      }
    }
    time_.parts.push_back({part, seconds});
  }
  double stream(double bytes) const { return bytes / giga(machine_.memory_bandwidth()); }
  double begin(double operations) const { return operations * machine_.operation_us() * 1e-6; }
  double product_rate(const ParamInfo& info) const {
    const bool in_full = info.role == ParamRole::kRouter;
    return machine_.matrix_efficiency() *
           peak_flops(machine_, in_full ? configs::RuntimeConfig::FLOAT32 : precision_);
  }
  bool recomputes_layers() const { return layout_.recompute == Recompute::kLayer; }

  // One product of a matrix, or of this rank's experts, with the rows of a micro-batch; its weights
  // are streamed from memory.
  struct Product {
    double forward = 0.0, backward = 0.0;
  };
  Product product_of(const ParamInfo& info) const {
    const bool expert = info.role == ParamRole::kExpert;
    const std::int64_t local = subject_.dims.experts / layout_.expert_parallel;
    const auto one =
        static_cast<double>(expert ? info.shape.size() / info.shape[0] : info.shape.size());
    const auto rows = static_cast<double>(expert ? rows_.slots : rows_.tokens) *
                      position_share(subject_, info.layer);
    const auto matrices = static_cast<double>(expert ? std::min(local, rows_.slots) : 1);
    const double work = 2.0 * rows * one / product_rate(info) + begin(1);
    const double weights = stream(matrices * one * static_cast<double>(subject_.value_bytes));
    // The gradient is read and written again but in the first micro-batch.
    const double gradient = (2.0 * times_ - 1.0) / times_ * weights;
    return {work + weights, 2.0 * work + weights + gradient};
  }

  void products() {
    for (const ParamInfo& info : subject_.table.params()) {
      if (!info.decay || info.name == "embedding") continue;
      const Product product = product_of(info);
      const bool up =
          info.role == ParamRole::kExpert && info.name.find(".down") == std::string::npos;
      const std::string part = part_of(info);
      const bool in_layer = info.layer >= 0 && part != "multi-token prediction";
      const bool again =
          (recomputes_layers() && in_layer) || (layout_.recompute == Recompute::kMoeLayer && up);
      const double passes = info.name == "head" ? head_passes(subject_) : 1.0;
      add(part, times_ * passes * (product.forward * (again ? 2.0 : 1.0) + product.backward));
    }
    if (!subject_.run.model().tied_head()) return;
    const ParamInfo& embedding = subject_.table[subject_.table.find("embedding")];
    const Product product = product_of(embedding);
    add("head", times_ * head_passes(subject_) * (product.forward + product.backward));
  }

  void attention_scores() {
    const double forward = count_flops(subject_).attention * static_cast<double>(rows_.tokens) /
                           (machine_.attention_efficiency() * peak_flops(machine_, precision_));
    add("attention", times_ * forward * ((recomputes_layers() ? 2.0 : 1.0) + kAttentionBackward));
  }

  void memory_bound() {
    const ModelDims& dims = subject_.dims;
    const double forwards = recomputes_layers() ? 2.0 : 1.0;
    const double passes = kForwardPasses * forwards + kBackwardPasses;
    for (const bool moe : {true, false}) {
      const double layers = static_cast<double>(moe ? dims.all_moe_layers()
                                                    : dims.all_layers() - dims.all_moe_layers());
      if (layers == 0.0) continue;
      const LayerTraffic traffic = layer_traffic(subject_, layout_, rows_, moe);
      const auto bytes = static_cast<double>(traffic.attention_bytes + traffic.feed_forward_bytes);
      const auto requests =
          static_cast<double>(traffic.attention_requests + traffic.feed_forward_requests);
      add("norms, activations, rows",
          times_ * layers * (stream(bytes * passes) + begin(requests * (forwards + 2.0))));
    }
    const auto logits = static_cast<double>(rows_.tokens * dims.vocab * subject_.activation_bytes);
    add("head", times_ * head_passes(subject_) * stream(kLogitPasses * logits));
  }

  double transfer(const TrafficPart& part) const {
    double seconds = 0.0;
    const double far_share = part.far_bytes / part.bytes();
    if (part.near_bytes > 0.0) {
      seconds += part.near_bytes / giga(machine_.intra_node().bandwidth()) +
                 part.messages * (1.0 - far_share) * machine_.intra_node().latency_us() * 1e-6;
    }
    if (part.far_bytes > 0.0) {
      seconds += part.far_bytes / giga(machine_.inter_node().bandwidth()) +
                 part.messages * far_share * machine_.inter_node().latency_us() * 1e-6;
    }
    return seconds;
  }

  // Rows that travel while the shared expert works are hidden behind it: those of a dispatch and of
  // the backward of a combine.
  void exchange() {
    double hidden = 0.0, total = 0.0;
    for (const TrafficPart& part : plan_traffic(subject_, layout_)) {
      if (part.group != "expert") continue;
      const double seconds = transfer(part) * imbalance_;
      total += seconds;
      if (part.kind == "dispatch" || part.kind == "combine backward") hidden += seconds;
    }
    add("dispatch and combine", total - std::min(hidden, time_.of("shared expert")));
  }

  void gradients() {
    for (const TrafficPart& part : plan_traffic(subject_, layout_)) {
      if (part.group == "expert") continue;
      // What arrives is added up in memory: two reads, one write.
      const bool sum = part.kind.find("gradients") != std::string::npos;
      add(sum ? "gradient reduction" : "gathering of weights",
          transfer(part) + (sum ? stream(3.0 * part.bytes()) : 0.0));
    }
  }

  void optimizer() {
    ParamStore::Layout params;
    params.local_experts = subject_.dims.experts / layout_.expert_parallel;
    params.dense_ranks = layout_.ranks;
    params.expert_ranks = layout_.replicas();
    const ParamPlacement placement(subject_.table, params);
    const bool zero1 = subject_.run.optimizer().zero1();
    const auto dense = static_cast<double>(placement.elements[0]);
    const auto expert = static_cast<double>(placement.elements[1]);
    const double updated =
        zero1 ? dense / params.dense_ranks + expert / params.expert_ranks : dense + expert;
    const auto bytes = static_cast<double>(subject_.value_bytes);
    add("optimizer", stream((kUpdatePasses * updated + dense) * bytes));  // dense: set to zero
  }

  void finish() {
    for (const TimePart& part : time_.parts) time_.seconds += part.seconds;
    const auto tokens = static_cast<double>(subject_.tokens_per_step());
    time_.tokens_per_second = tokens / time_.seconds;
    time_.mfu = count_flops(subject_).training() * time_.tokens_per_second /
                (peak_flops(machine_, precision_) * layout_.ranks);
  }

  const PlanSubject& subject_;
  const PlanLayout& layout_;
  const configs::MachineConfig& machine_;
  double imbalance_;
  RoutedRows rows_;
  double times_;  // micro-batches of a step
  configs::RuntimeConfig::Precision precision_;
  StepTime time_;
};

}  // namespace

double StepTime::of(const std::string& name) const {
  for (const TimePart& entry : parts) {
    if (entry.part == name) return entry.seconds;
  }
  return 0.0;
}

StepTime plan_step_time(const PlanSubject& subject, const PlanLayout& layout,
                        const configs::MachineConfig& machine, double imbalance) {
  return StepClock(subject, layout, machine, imbalance).measure();
}

}  // namespace witan

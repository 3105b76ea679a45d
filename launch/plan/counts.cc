#include "launch/plan/counts.h"

#include <algorithm>
namespace witan {
namespace {

bool has(const std::string& name, const char* what) { return name.find(what) != std::string::npos; }

double attention_flops(const PlanSubject& subject) {
  const ModelDims& dims = subject.dims;
  const auto of_layer = [&](std::int64_t seq_len) {
    return 2.0 * dims.mean_keys(seq_len) *
           static_cast<double>(dims.heads * (dims.head_dim + dims.v_dim));
  };
  double flops = of_layer(subject.seq_len()) * static_cast<double>(dims.layers);
  for (std::int64_t k = 0; k < dims.mtp; ++k) {
    flops += position_share(subject, static_cast<int>(dims.layers + k)) *
             of_layer(subject.seq_len() - k - 1);
  }
  return flops;
}

// 2 x matrix parameters by part; a token passes `experts` of the experts.
std::vector<PartFlops> products_of(const PlanSubject& subject, std::int64_t experts) {
  std::vector<PartFlops> parts;
  const auto add = [&](const std::string& part, double flops) {
    const auto found = std::find_if(parts.begin(), parts.end(),
                                    [&](const PartFlops& entry) { return entry.part == part; });
    if (found == parts.end()) {
      parts.push_back({part, flops});
    } else {
      found->forward += flops;
    }
  };
  for (const ParamInfo& info : subject.table.params()) {
    if (!info.decay || info.name == "embedding") continue;  // vectors are not matrix products
    const auto size = static_cast<double>(info.shape.size());
    const double used = info.role == ParamRole::kExpert
                            ? static_cast<double>(experts) / static_cast<double>(info.shape[0])
                            : 1.0;
    const double positions =
        info.name == "head" ? head_passes(subject) : position_share(subject, info.layer);
    add(part_of(info), 2.0 * size * used * positions);
  }
  if (subject.run.model().tied_head()) {
    add("head", 2.0 * static_cast<double>(subject.dims.vocab * subject.dims.d_model) *
                    head_passes(subject));
  }
  return parts;
}

double sum_of(const std::vector<PartFlops>& parts) {
  double sum = 0.0;
  for (const PartFlops& part : parts) sum += part.forward;
  return sum;
}

}  // namespace

ParameterCounts count_parameters(const PlanSubject& subject) {
  ParameterCounts counts;
  counts.total = subject.table.total_parameters();
  counts.active = subject.table.active_parameters();
  for (const ParamInfo& info : subject.table.params()) {
    if (info.role == ParamRole::kExpert) counts.expert += info.shape.size();
    if (info.role == ParamRole::kState) counts.state += info.shape.size();
    if (info.trained() && info.layer >= subject.dims.layers) counts.mtp += info.shape.size();
  }
  return counts;
}

std::int64_t parameters_per_rank(const PlanSubject& subject, const PlanLayout& layout) {
  const ParameterCounts counts = count_parameters(subject);
  return counts.total - counts.expert + counts.expert / layout.expert_parallel;
}

std::string part_of(const ParamInfo& info) {
  if (info.role == ParamRole::kExpert) return "experts";
  if (info.role == ParamRole::kRouter) return "router";
  if (has(info.name, ".attention.")) return "attention";
  if (has(info.name, ".moe.shared")) return "shared expert";
  if (has(info.name, ".ffn.")) return "dense ffn";
  if (has(info.name, ".mtp.")) return "multi-token prediction";
  return info.name == "embedding" ? "embedding" : "head";
}

double position_share(const PlanSubject& subject, int layer) {
  const std::int64_t depth = layer - subject.dims.layers + 1;
  if (depth < 1) return 1.0;
  return 1.0 - static_cast<double>(depth) / static_cast<double>(subject.seq_len());
}

double head_passes(const PlanSubject& subject) {
  double passes = 1.0;
  for (std::int64_t k = 0; k < subject.dims.mtp; ++k) {
    passes += position_share(subject, static_cast<int>(subject.dims.layers + k));
  }
  return passes;
}

double Flops::forward() const { return sum_of(products) + attention; }

Flops count_flops(const PlanSubject& subject) {
  return {products_of(subject, subject.dims.top_k), attention_flops(subject)};
}

double dense_forward_flops(const PlanSubject& subject) {
  return sum_of(products_of(subject, subject.dims.experts)) + attention_flops(subject);
}

}  // namespace witan

#include "launch/plan/subject.h"

#include "core/ops/cuda/cublas_workspace.h"
#include "parallel/mesh.h"

namespace witan {
namespace {

constexpr int kHopper = 9;

std::int64_t wire_bytes_of(const ExchangeOptions& options, std::int64_t activation_bytes) {
  return options.format == ops::WireFormat::kAsIs ? activation_bytes : 2;
}

std::int64_t operand_bytes_of(const configs::RunConfig& run, std::int64_t activation_bytes) {
  const bool rounded = run.runtime().precision() == configs::RuntimeConfig::BF16 &&
                       run.device() == configs::CPU && !run.model().moe().expert_bias_terms();
  return rounded ? 2 : activation_bytes;
}

}  // namespace

PlanSubject::PlanSubject(const configs::RunConfig& config, std::int64_t bf16_activation_bytes)
    : run(config),
      table(config.model()),
      dims(config.model()),
      exchange(exchange_options(config)),
      value_bytes(config.runtime().precision() == configs::RuntimeConfig::FLOAT64 ? 8 : 4),
      activation_bytes(config.runtime().precision() == configs::RuntimeConfig::BF16 && !on_cuda()
                           ? bf16_activation_bytes
                           : value_bytes),
      operand_bytes(operand_bytes_of(config, activation_bytes)),
      wire_bytes(wire_bytes_of(exchange, activation_bytes)),
      cublas_workspace(static_cast<std::int64_t>(ops::cuda::cublas_workspace_bytes(kHopper))) {}

PlanLayout configured_layout(const configs::RunConfig& run, int ranks, int ranks_per_node) {
  PlanLayout layout;
  layout.ranks = ranks;
  layout.ranks_per_node = ranks_per_node;
  layout.expert_parallel = resolve_expert_parallel(run, ranks);
  const std::int64_t per_rank = run.train().global_batch() / ranks;
  layout.micro_batch = run.train().has_micro_batch() ? run.train().micro_batch() : per_rank;
  layout.micro_batches = per_rank / layout.micro_batch;
  layout.recompute = static_cast<Recompute>(run.train().recompute());
  return layout;
}

const char* name_of(Recompute recompute) {
  return configs::TrainConfig::Recompute_Name(
             static_cast<configs::TrainConfig::Recompute>(recompute))
      .c_str();
}

}  // namespace witan

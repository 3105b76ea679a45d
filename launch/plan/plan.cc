#include "launch/plan/plan.h"

#include "core/ops/cuda/cublas_workspace.h"
#include "launch/plan/memory_advice.h"

namespace witan {

Plan make_plan(const configs::RunConfig& run, const std::optional<configs::MachineConfig>& machine,
               int ranks, double imbalance, const std::optional<PlannedGpu>& gpu) {
  const std::int64_t bf16_activations =
      machine ? machine->bf16_activation_bytes() : configs::MachineConfig().bf16_activation_bytes();
  PlanSubject subject(run, bf16_activations);
  if (gpu) {
    subject.cublas_workspace =
        static_cast<std::int64_t>(ops::cuda::cublas_workspace_bytes(gpu->compute_capability_major));
  }
  Plan plan;
  plan.name = run.name();
  plan.seq_len = subject.seq_len();
  plan.tokens_per_step = subject.tokens_per_step();
  plan.imbalance = imbalance;
  plan.parameters = count_parameters(subject);
  plan.flops = count_flops(subject);
  plan.dense_forward_flops = dense_forward_flops(subject);
  plan.layout = machine ? configured_layout(run, static_cast<int>(machine->ranks()),
                                            static_cast<int>(machine->ranks_per_node()))
                        : configured_layout(run, ranks, ranks);
  plan.parameters_per_rank = parameters_per_rank(subject, plan.layout);
  plan.memory = plan_memory(subject, plan.layout, imbalance);
  for (const Recompute level : kRecomputeLevels) {
    PlanLayout layout = plan.layout;
    layout.recompute = level;
    plan.levels.push_back({level, plan_memory(subject, layout, imbalance)});
  }
  if (gpu) {
    plan.device_memory = Plan::DeviceMemoryFit{gpu->bytes, gpu->of, {}};
    if (plan.memory.total() > gpu->bytes) {
      plan.device_memory->advice = memory_advice(subject, plan.layout, imbalance, gpu->bytes);
    }
  }
  plan.traffic = plan_traffic(subject, plan.layout);
  if (!machine) return plan;
  plan.machine = machine;
  plan.time = plan_step_time(subject, plan.layout, *machine, imbalance);
  plan.search = search_layouts(subject, *machine, imbalance);
  return plan;
}

}  // namespace witan

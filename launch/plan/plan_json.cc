#include <nlohmann/json.hpp>

#include "launch/plan/plan.h"

namespace witan {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const PlanLayout& layout) {
  return {{"ranks", layout.ranks},
          {"ranks_per_node", layout.ranks_per_node},
          {"expert", layout.expert_parallel},
          {"replicas", layout.replicas()},
          {"micro_batch", layout.micro_batch},
          {"micro_batches", layout.micro_batches},
          {"recompute", name_of(layout.recompute)}};
}

Json json_of(const MemoryPlan& memory) {
  return {{"weights", memory.weights},
          {"gradients", memory.gradients},
          {"optimizer", memory.optimizer},
          {"activations", memory.activations},
          {"routing", memory.routing},
          {"scratch", memory.scratch},
          {"exchange", memory.exchange},
          {"reduction", memory.reduction},
          {"weights_in_bf16", memory.rounded},
          {"kernels", memory.kernels},
          {"total", memory.total()}};
}

Json json_of(const StepTime& time) {
  Json json = {
      {"seconds", time.seconds}, {"tokens_per_second", time.tokens_per_second}, {"mfu", time.mfu}};
  for (const TimePart& part : time.parts) json["parts"][part.part] = part.seconds;
  return json;
}

Json json_of(const PlannedLayout& planned) {
  return {{"layout", json_of(planned.layout)},
          {"memory_bytes", json_of(planned.memory)},
          {"step", json_of(planned.time)}};
}

Json counts_json(const Plan& plan) {
  const ParameterCounts& counts = plan.parameters;
  Json json = {{"name", plan.name},
               {"parameters",
                {{"total", counts.total},
                 {"active", counts.active},
                 {"experts", counts.expert},
                 {"expert_biases", counts.state},
                 {"mtp", counts.mtp},
                 {"efficiency", counts.efficiency()}}},
               {"seq_len", plan.seq_len}};
  Json& flops = json["flops_per_token"];
  flops = {{"forward", plan.flops.forward()},
           {"training", plan.flops.training()},
           {"forward_of_dense", plan.dense_forward_flops}};
  for (const PartFlops& part : plan.flops.products) flops["parts"][part.part] = part.forward;
  flops["parts"]["attention scores"] = plan.flops.attention;
  return json;
}

Json search_json(const LayoutSearch& search) {
  Json json = {{"tried", search.tried}, {"fitting", Json::array()}};
  for (const PlannedLayout& layout : search.fitting) json["fitting"].push_back(json_of(layout));
  if (search.need) {
    json["does_not_fit"]["least"] = json_of(search.need->least);
    if (search.need->fits) json["does_not_fit"]["fits"] = json_of(*search.need->fits);
  }
  return json;
}

}  // namespace

std::string plan_json(const Plan& plan) {
  Json json = counts_json(plan);
  json["format"] = "witan plan 1";
  json["tokens_per_step"] = plan.tokens_per_step;
  json["imbalance"] = plan.imbalance;
  json["parameters"]["per_rank"] = plan.parameters_per_rank;
  json["layout"] = json_of(plan.layout);
  json["memory_bytes"] = json_of(plan.memory);
  for (const Plan::Level& level : plan.levels) {
    json["memory_bytes_by_recompute"][name_of(level.recompute)] = json_of(level.memory);
  }
  Json& traffic = json["sent_bytes"] = Json::array();
  for (const TrafficPart& part : plan.traffic) {
    traffic.push_back({{"kind", part.kind},
                       {"group", part.group},
                       {"near", part.near_bytes},
                       {"far", part.far_bytes},
                       {"messages", part.messages}});
  }
  if (plan.memory.pinned > 0) json["pinned_host_bytes"] = plan.memory.pinned;
  if (plan.device_memory) {
    json["device_memory"] = {{"bytes", plan.device_memory->bytes},
                             {"of", plan.device_memory->of},
                             {"fits", plan.device_memory->advice.empty()}};
    if (!plan.device_memory->advice.empty()) {
      json["device_memory"]["advice"] = plan.device_memory->advice;
    }
  }
  if (plan.machine) {
    json["machine"] = plan.machine->name();
    json["fits"] = fits(plan.memory, *plan.machine);
    json["step"] = json_of(plan.time);
    json["layouts"] = search_json(plan.search);
  }
  return json.dump(1) + "\n";
}

std::string comparison_json(const std::vector<Plan>& plans) {
  Json json = {{"format", "witan plan table 1"}, {"models", Json::array()}};
  for (const Plan& plan : plans) json["models"].push_back(counts_json(plan));
  return json.dump(1) + "\n";
}

}  // namespace witan

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "launch/plan/plan.h"

namespace witan {
namespace {

template <class... Values>
std::string format(const char* pattern, Values... values) {
  std::array<char, 512> text{};
  std::snprintf(text.data(), text.size(), pattern, values...);
  return text.data();
}

// 46702792704 -> "46,702,792,704".
std::string grouped(std::int64_t number) {
  std::string text = std::to_string(number);
  for (auto at = static_cast<std::int64_t>(text.size()) - 3; at > 0; at -= 3) {
    text.insert(static_cast<std::size_t>(at), ",");
  }
  return text;
}

double gigabytes(double bytes) { return bytes * 1e-9; }
double gigabytes(std::int64_t bytes) { return static_cast<double>(bytes) * 1e-9; }

std::vector<std::pair<const char*, std::int64_t>> parts_of(const MemoryPlan& memory) {
  return {{"weights", memory.weights},           {"gradients", memory.gradients},
          {"optimizer", memory.optimizer},       {"activations", memory.activations},
          {"routing", memory.routing},           {"scratch", memory.scratch},
          {"exchange buffers", memory.exchange}, {"reduction", memory.reduction},
          {"weights in bf16", memory.rounded},   {"kernels and cuBLAS", memory.kernels}};
}

std::string layout_text(const PlanLayout& layout) {
  return format("%d ranks, EP %d x DP %d, micro-batch %lld x %lld, recompute %s", layout.ranks,
                layout.expert_parallel, layout.replicas(),
                static_cast<long long>(layout.micro_batch),
                static_cast<long long>(layout.micro_batches), name_of(layout.recompute));
}

std::string counts_text(const Plan& plan) {
  const ParameterCounts& counts = plan.parameters;
  std::string text = plan.name + "\n";
  text += format("parameters  %s total, %s active (%.1f%%)\n", grouped(counts.total).c_str(),
                 grouped(counts.active).c_str(), counts.efficiency() * 100.0);
  text += format("            %s in routed experts, %s in expert biases besides\n",
                 grouped(counts.expert).c_str(), grouped(counts.state).c_str());
  if (counts.mtp > 0) {
    text += format(
        "            %s of the total in modules of multi-token prediction; active counts them as "
        "well\n",
        grouped(counts.mtp).c_str());
  }
  text += format(
      "FLOPs       %.4g a token forward, %.4g in training, %.3f of a dense model of equal total\n"
      "            training = 6 x active matrix parameters (head included, embedding not) + 3 x\n"
      "            attention, forward 2 S heads (qk_dim + v_dim) / 2 a layer, causal, S = %lld\n",
      plan.flops.forward(), plan.flops.training(), plan.flops.forward() / plan.dense_forward_flops,
      static_cast<long long>(plan.seq_len));
  for (const PartFlops& part : plan.flops.products) {
    text += format("  %-22s %10.4g forward\n", part.part.c_str(), part.forward);
  }
  return text + format("  %-22s %10.4g forward\n", "attention scores", plan.flops.attention);
}

std::string device_memory_text(const Plan& plan) {
  std::string text;
  if (plan.memory.pinned > 0) {
    text += format("  %-22s %12.4f\n", "pinned host memory", gigabytes(plan.memory.pinned));
  }
  if (!plan.device_memory) return text;
  const Plan::DeviceMemoryFit& fit = *plan.device_memory;
  const double room = gigabytes(fit.bytes);
  if (!fit.advice.empty()) {
    return text + format("DOES NOT FIT in %.4f GB (%s): ", room, fit.of.c_str()) + fit.advice +
           "\n";
  }
  return text + format(
                    "fits in %.4f GB (%s), with %.4f GB to spare for NCCL, the CUDA context and "
                    "other programs\n",
                    room, fit.of.c_str(), room - gigabytes(plan.memory.total()));
}

std::string memory_text(const Plan& plan) {
  std::string text = "\n" + layout_text(plan.layout) + "\n";
  text += format("load of the busiest rank %.2f of the mean; %s parameters a rank\n",
                 plan.imbalance, grouped(plan.parameters_per_rank).c_str());
  text += "memory of a rank, GB\n";
  for (const auto& [part, bytes] : parts_of(plan.memory)) {
    if (bytes > 0) text += format("  %-22s %12.4f\n", part, gigabytes(bytes));
  }
  text += format("  %-22s %12.4f\n", "total", gigabytes(plan.memory.total()));
  text += device_memory_text(plan);
  text += "at each level of recomputation, GB\n";
  text += "                          activations      scratch        total\n";
  for (const Plan::Level& level : plan.levels) {
    text += format("  %-22s %12.4f %12.4f %12.4f\n", name_of(level.recompute),
                   gigabytes(level.memory.activations), gigabytes(level.memory.scratch),
                   gigabytes(level.memory.total()));
  }
  return text;
}

std::string traffic_text(const Plan& plan) {
  if (plan.traffic.empty()) return "";
  std::string text = "sent by a rank in a step, GB          in its node   to others\n";
  for (const TrafficPart& part : plan.traffic) {
    text += format("  %-32s %14.5f %11.5f\n", part.kind.c_str(), gigabytes(part.near_bytes),
                   gigabytes(part.far_bytes));
  }
  return text;
}

std::string time_text(const Plan& plan) {
  const StepTime& time = plan.time;
  std::string text =
      format("step on %s: %.4g s, %.4g tokens/s, MFU %.1f%%%s\n", plan.machine->name().c_str(),
             time.seconds, time.tokens_per_second, time.mfu * 100.0,
             fits(plan.memory, *plan.machine) ? "" : " (does not fit)");
  for (const TimePart& part : time.parts) {
    text += format("  %-26s %10.3f ms %5.1f%%\n", part.part.c_str(), part.seconds * 1e3,
                   part.seconds / time.seconds * 100.0);
  }
  return text;
}

std::string need_text(const Plan& plan) {
  const MemoryNeed& need = *plan.search.need;
  const MemoryPlan& least = need.least.memory;
  std::string text = format(
      "DOES NOT FIT in %.1f GB a rank: %.1f GB would be needed at least (%s)\n",
      plan.machine->memory(), gigabytes(least.total()), layout_text(need.least.layout).c_str());
  if (need.fits) {
    return text + format(
                      "  it would fit on %d such ranks (EP %d, recompute %s, one sequence at a "
                      "time)\n",
                      need.fits->ranks, need.fits->expert_parallel, name_of(need.fits->recompute));
  }
  return text + "  and on no number of such ranks, since every rank holds all dense tensors\n";
}

std::string layouts_text(const Plan& plan, std::size_t layouts) {
  const LayoutSearch& search = plan.search;
  std::string text = format("\nlayouts on %s: %lld tried, %zu fit in %.1f GB a rank\n",
                            plan.machine->name().c_str(), static_cast<long long>(search.tried),
                            search.fitting.size(), plan.machine->memory());
  if (search.need) return text + need_text(plan);
  text += "     EP     DP  micro-batch  recompute           GB    seconds     tokens/s    MFU\n";
  for (std::size_t i = 0; i < std::min(layouts, search.fitting.size()); ++i) {
    const PlannedLayout& best = search.fitting[i];
    text +=
        format("  %5d  %5d  %5lld x %-4lld %-14s %7.2f %10.4g %12.4g  %4.1f%%%s\n",
               best.layout.expert_parallel, best.layout.replicas(),
               static_cast<long long>(best.layout.micro_batch),
               static_cast<long long>(best.layout.micro_batches), name_of(best.layout.recompute),
               gigabytes(best.memory.total()), best.time.seconds, best.time.tokens_per_second,
               best.time.mfu * 100.0, i == 0 ? "  best" : "");
  }
  return text;
}

}  // namespace

std::string plan_text(const Plan& plan, std::size_t layouts) {
  std::string text = counts_text(plan) + memory_text(plan) + traffic_text(plan);
  if (plan.machine) text += time_text(plan) + layouts_text(plan, layouts);
  return text;
}

std::string comparison_text(const std::vector<Plan>& plans) {
  std::string text =
      "model                               total             active  active/total  GFLOP/token  "
      "of dense\n";
  for (const Plan& plan : plans) {
    text += format("%-22s %18s %18s  %11.2f%%  %11.2f  %8.4f\n", plan.name.c_str(),
                   grouped(plan.parameters.total).c_str(), grouped(plan.parameters.active).c_str(),
                   plan.parameters.efficiency() * 100.0, plan.flops.training() * 1e-9,
                   plan.flops.forward() / plan.dense_forward_flops);
  }
  return text +
         "GFLOP/token: training, 6 x active matrix parameters (head included, input embedding not) "
         "+ 3 x attention at\nthe config's sequence length. of dense: over those of a dense model "
         "with as many parameters.\n";
}

}  // namespace witan

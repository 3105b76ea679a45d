// The same step at other layouts: expert-parallel sizes, micro-batches, ranks.
#include <string>
#include <vector>

#include "core/model/balance/balancer.h"
#include "launch/verify/checks.h"
#include "launch/verify/compare.h"

namespace witan {
namespace {

using configs::RunConfig;
using configs::RuntimeConfig;

// Relative, of a tensor's gradient: the order of sums differs, nothing else.
double layout_tolerance(RuntimeConfig::Precision precision) {
  return precision == RuntimeConfig::FLOAT64 ? 1e-10 : 5e-5;
}

// Ways for the tokens that the config may not take.
struct OtherExchange {
  const char* name;
  void (*set)(configs::ExchangeConfig& exchange);
};
constexpr OtherExchange kOtherExchanges[] = {
    {"by all-to-all",
     [](configs::ExchangeConfig& e) { e.set_transport(configs::ExchangeConfig::ALL_TO_ALL); }},
    {"a row per choice",
     [](configs::ExchangeConfig& e) { e.set_rows(configs::ExchangeConfig::PER_CHOICE); }},
    {"in three chunks", [](configs::ExchangeConfig& e) { e.set_chunks(3); }},
};

std::vector<int> expert_parallel_sizes(const VerifyContext& context) {
  std::vector<int> sizes;
  const std::int64_t experts = context.run.model().moe().experts();
  for (int ep = 1; ep <= context.ranks(); ++ep) {
    const bool splits = ep == 1 || (context.run.model().has_moe() && experts % ep == 0);
    if (context.ranks() % ep == 0 && splits) sizes.push_back(ep);
  }
  return sizes;
}

// A step of `found` on a mesh against a finished one of one rank alone.
CheckResult compare_step(const VerifyContext& context, const std::string& check,
                         const RunConfig& found, const Mesh& mesh, VerifySession& whole,
                         const StepMetrics& expected) {
  VerifySession session(found, mesh, context.runtime);
  session.wake();
  const StepMetrics metrics = compute_gradients(session);
  if (context.hooks.after_gradients) context.hooks.after_gradients(check, session.params());
  CheckResult result;
  result.check = check;
  result.tolerance = layout_tolerance(found.runtime().precision());
  Errors errors(session.table());
  compare_gradients(session.params(), whole.params(), errors);
  compare_losses(metrics, expected, errors);
  errors.agree(context.world);
  errors.report(result);
  return result;
}

// Whether the partition of the batch is a part of what it computes.
bool contains_partition(const configs::BalancerConfig& balancer) {
  return balancer.has_importance_cv2() || balancer.has_load_cv2() ||
         balancer.has_device_balance() ||
         (balancer.has_switch_aux() &&
          (balancer.switch_aux().scope() == configs::SwitchAux::MICRO_BATCH ||
           balancer.switch_aux().counts() == configs::SwitchAux::RUNNING));
}

// Whether it looks at what all ranks have at a time, which one rank has one after the other.
bool looks_across_ranks(const configs::BalancerConfig& balancer) {
  return balancer.importance_cv2().scope() == configs::ImportanceCv2::GLOBAL_MICRO_BATCH ||
         balancer.load_cv2().scope() == configs::LoadCv2::GLOBAL_MICRO_BATCH ||
         balancer.switch_aux().counts() == configs::SwitchAux::RUNNING;
}

// Removes such losses, and lets experts choose within a rank; what it was.
std::string remove_scopes_across_ranks(RunConfig& run) {
  std::string removed;
  if (!run.model().has_moe()) return removed;
  configs::MoeConfig& moe = *run.mutable_model()->mutable_moe();
  for (int i = moe.balance_size(); i-- > 0;) {
    if (!looks_across_ranks(moe.balance(i))) continue;
    removed += (removed.empty() ? "" : ", ") + std::string(make_balancer(moe.balance(i))->name());
    moe.mutable_balance()->DeleteSubrange(i, 1);
  }
  using configs::ExpertChoiceSelection;
  if (moe.router().expert_choice().scope() == ExpertChoiceSelection::EXPERT_GROUP) {
    removed += (removed.empty() ? "" : ", ") + std::string("expert_choice.scope: EXPERT_GROUP");
    moe.mutable_router()->mutable_expert_choice()->set_scope(ExpertChoiceSelection::RANK);
  }
  return removed;
}

// Removes such losses, and the capacity, which drops within a micro-batch; their names.
std::string remove_partition(RunConfig& run) {
  std::string removed;
  if (!run.model().has_moe()) return removed;
  if (run.model().moe().has_capacity()) {
    removed = "capacity";
    run.mutable_model()->mutable_moe()->clear_capacity();
  }
  auto& balance = *run.mutable_model()->mutable_moe()->mutable_balance();
  for (int i = balance.size(); i-- > 0;) {
    if (!contains_partition(balance[i])) continue;
    removed += (removed.empty() ? "" : ", ") + std::string(make_balancer(balance[i])->name());
    balance.DeleteSubrange(i, 1);
  }
  return removed;
}

}  // namespace

std::vector<CheckResult> check_expert_parallel(const VerifyContext& context) {
  const std::string check = "expert_parallel";
  if (context.ranks() == 1) {
    CheckResult result;
    result.check = check;
    result.skipped = "one rank; start it with mpirun -n 2 or more";
    return {result};
  }
  std::vector<CheckResult> results;
  const Mesh alone = context.alone();
  for (const auto precision : {RuntimeConfig::FLOAT64, RuntimeConfig::FLOAT32}) {
    const std::string choices = context.own_file(check + "-" + name_of(precision));
    RunConfig base = context.run;
    const std::string removed = remove_scopes_across_ranks(base);
    RunConfig run = gradient_config(base, precision);
    record_routing(run, choices);
    VerifySession whole(run, alone, context.runtime);
    whole.wake();
    const StepMetrics expected = compute_gradients(whole);
    // In float64 nothing is so close that rounding decides: there the choices are compared, too.
    run = gradient_config(base, precision);
    if (precision == RuntimeConfig::FLOAT32) replay_routing(run, choices);
    for (const int ep : expert_parallel_sizes(context)) {
      const Mesh mesh = context.mesh(ep);
      results.push_back(compare_step(context, check, run, mesh, whole, expected));
      results.back().variant = "EP " + std::to_string(ep) + " x DP " +
                               std::to_string(mesh.replicas()) + " against one rank, " +
                               name_of(precision);
      if (!removed.empty()) {
        results.back().note = "without " + removed + ", over what all ranks have at a time";
      }
    }
    if (precision == RuntimeConfig::FLOAT32) continue;
    const int ep = expert_parallel_sizes(context).back();
    if (ep == 1) continue;
    const Mesh mesh = context.mesh(ep);
    for (const OtherExchange& other : kOtherExchanges) {
      RunConfig changed = run;
      other.set(*changed.mutable_parallel()->mutable_exchange());
      results.push_back(compare_step(context, check, changed, mesh, whole, expected));
      results.back().variant = "EP " + std::to_string(ep) + ", " + other.name + ", float64";
    }
  }
  return results;
}

std::vector<CheckResult> check_accumulation(const VerifyContext& context) {
  RunConfig run = gradient_config(context.run, RuntimeConfig::FLOAT64);
  const std::string removed = remove_partition(run);
  run.mutable_train()->set_micro_batch(run.train().global_batch());
  const std::string choices = context.own_file("accumulation");
  record_routing(run, choices);
  const Mesh alone = context.alone();
  VerifySession whole(run, alone, context.runtime);
  whole.wake();
  const StepMetrics expected = compute_gradients(whole);

  run.mutable_train()->set_micro_batch(1);
  replay_routing(run, choices);  // a router may choose within its micro-batch
  const Mesh mesh = context.mesh(context.expert_parallel());
  CheckResult result = compare_step(context, "accumulation", run, mesh, whole, expected);
  result.variant = std::to_string(context.ranks()) + " x " +
                   std::to_string(context.run.train().global_batch() / context.ranks()) +
                   " micro-batches against one batch";
  if (!removed.empty())
    result.note = "without " + removed + ", over single micro-batches by definition";
  return {result};
}

}  // namespace witan

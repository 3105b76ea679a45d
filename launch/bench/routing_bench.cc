#include "launch/bench/routing_bench.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <memory>
#include <string>

#include "configs/selection_k.h"
#include "core/base/error.h"
#include "core/model/check_model.h"
#include "launch/bench/layer_run.h"
#include "launch/bench/phase_times.h"

namespace witan {
namespace {

using configs::RouterConfig;

constexpr const char* kSection = "routing";
constexpr double kMostShare = 0.12;

// The parts of a layer that would be there without routing.
bool is_expert_phase(const std::string& name) {
  return name.starts_with("experts") || name.starts_with("shared expert");
}

// With bf16 the experts are so much faster that the share says little of routing.
bool has_bar(const std::string& selection, const BenchSession& session) {
  return !session.in_bf16() && selection != "sinkhorn" && selection != "hierarchical";
}

struct Candidate {
  std::string name;
  LayerShape shape;
  std::unique_ptr<LayerRun> run;
  PhaseTimes phases;
};

BenchResult result_of(const BenchSession& session, const Candidate& candidate,
                      const std::string& subject, const Spread& seconds) {
  const std::vector<PhaseTimes::Phase> phases = candidate.phases.phases();
  const auto share_of = [&](const auto& counts) {
    double share = 0.0;
    for (const PhaseTimes::Phase& phase : phases) share += counts(phase.name) ? phase.share : 0.0;
    return share;
  };
  BenchResult result{kSection, subject, candidate.name, seconds};
  result.tokens = static_cast<double>(candidate.shape.tokens);
  result.ratios.push_back(
      {"routing", share_of([](const std::string& name) { return !is_expert_phase(name); })});
  if (has_bar(candidate.name, session)) {
    result.ratios.back().bar = kMostShare;
    result.ratios.back().at_most = true;
  }
  result.ratios.push_back({"router", share_of([](const std::string& name) {
                             return name == "router" || name == "router backward";
                           })});
  return result;
}

}  // namespace

std::optional<LayerShape> with_selection(const LayerShape& shape, const RouterEntry& entry) {
  LayerShape changed = shape;
  const std::int64_t experts = shape.experts();
  const std::int64_t k = shape.top_k();
  RouterConfig& router = *changed.run.mutable_model()->mutable_moe()->mutable_router();
  WITAN_CHECK(google::protobuf::TextFormat::MergeFromString(entry.example, &router), entry.name,
              ": its example is not a router");
  set_selection_k(router, k);
  router.set_allow_non_causal(true);
  if (router.has_group_limited()) {
    // The most groups, up to 8, of which half hold the experts of a token.
    std::int64_t groups = 8;
    while (groups > 1 && (experts % groups != 0 || groups / 2 * (experts / groups) < k)) --groups;
    router.mutable_group_limited()->set_n_group(groups);
    router.mutable_group_limited()->set_topk_group(std::max<std::int64_t>(1, groups / 2));
    router.mutable_group_limited()->set_group_top(std::min<std::int64_t>(2, experts / groups));
  }
  if (router.has_top_p()) {
    router.mutable_top_p()->set_p(1.0);
    router.mutable_top_p()->set_k_max(k);
  }
  if (router.has_expert_choice()) {
    router.set_score(RouterConfig::SOFTMAX);
    router.set_weights(RouterConfig::AS_IS);
  }
  if (router.has_all()) changed.tokens = std::max<std::int64_t>(1, shape.tokens * k / experts);
  changed.run.mutable_model()->mutable_moe()->clear_balance();
  bool fits = true;
  check_model(changed.model(), [&](const std::string&, const std::string&) { fits = false; });
  return fits ? std::optional<LayerShape>(changed) : std::nullopt;
}

std::vector<BenchResult> bench_routing(const BenchSession& session, const LayerShape& shape) {
  const Mesh mesh(session.mpi, expert_parallel_of(shape, session.world.size()), 0.0);
  std::vector<Candidate> candidates;
  for (const RouterEntry& entry : registered_routers()) {
    const std::optional<LayerShape> changed = with_selection(shape, entry);
    if (!changed) continue;
    candidates.push_back(
        {entry.name,
         *changed,
         std::make_unique<LayerRun>(*changed, mesh, session.runtime, ForcedLoad::Load{}),
         {}});
  }
  Stopwatch stopwatch = session.stopwatch();
  for (int turn = -1; turn < session.repeat; ++turn) {
    for (Candidate& candidate : candidates) {
      stopwatch.time(candidate.name,
                     [&] { candidate.phases.record([&] { candidate.run->forward_backward(); }); });
      if (turn < 0) candidate.phases = {};
    }
    if (turn < 0) stopwatch = session.stopwatch();
  }
  const std::string subject =
      detail::concat(shape.name(), ", ", session.precision(), ", EP ", mesh.expert_parallel());
  std::vector<BenchResult> results;
  for (const Candidate& candidate : candidates) {
    results.push_back(result_of(session, candidate, subject, stopwatch.seconds(candidate.name)));
  }
  return results;
}

}  // namespace witan

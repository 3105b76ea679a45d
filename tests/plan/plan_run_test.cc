// The plan against what a run on these ranks allocates and sends: tensors, arenas, exchange
// buffers, optimizer, bytes of the collectives, at EP of all ranks and EP 1, at each level of
// recomputation.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "core/base/profile.h"
#include "core/base/rng.h"
#include "launch/bench/step_run.h"
#include "launch/plan/memory.h"
#include "launch/plan/traffic.h"
#include "tests/plan/plan_case.h"

namespace witan::test {
namespace {

constexpr double kArenaTolerance = 0.10;
constexpr double kTrafficTolerance = 0.03;

const MpiEnvironment& mpi() {
  static const MpiEnvironment environment(nullptr, nullptr);
  return environment;
}

// Experts at random, without replacement: what the plan expects.
class RandomRouting final : public RoutingHook {
 public:
  void on_route(int layer, const Batch& batch, const TensorView& indices,
                std::int64_t experts) override {
    const Random random(3, "random routing", std::to_string(layer));
    std::vector<std::int32_t> order(static_cast<std::size_t>(experts));
    for (std::int64_t t = 0; t < indices.rows(); ++t) {
      std::iota(order.begin(), order.end(), 0);
      for (std::int64_t j = 0; j < indices.cols(); ++j) {
        const auto draw = static_cast<std::uint64_t>((batch.first_token + t) * indices.cols() + j);
        const std::int64_t other = j + static_cast<std::int64_t>(random.below(
                                           draw, static_cast<std::uint64_t>(experts - j)));
        std::swap(order[static_cast<std::size_t>(j)], order[static_cast<std::size_t>(other)]);
        indices.as<std::int32_t>()[t * indices.cols() + j] = order[static_cast<std::size_t>(j)];
      }
    }
  }
};

struct Case {
  const char* name;
  const char* model;
  const char* more;
  // How many slots there are is left to chance also on one rank: some choices fall on experts that
  // compute nothing.
  bool random_slots = false;
  // Every level, or nothing and whole layers only: the levels between are those of other cases.
  bool every_level = true;
};

// 12 experts and 12 sequences divide over 1 to 4 ranks.
constexpr Case kCases[] = {
    {"plain",
     "vocab_size: 101 d_model: 48 layers: 3 attention { heads: 4 kv_heads: 2 }"
     "moe { experts: 12 d_ff: 40 router { top_k { k: 2 } } }",
     ""},
    {"everything",
     "vocab_size: 101 d_model: 48 layers: 3 attention { heads: 4 qk_norm: true qkv_bias: true }"
     "norm { kind: LAYERNORM } ffn { d_ff: 72 } tied_head: true "
     "moe { experts: 12 d_ff: 24 shared_d_ff: 32 shared_gate: true pattern { first: 1 }"
     "  router { score: SIGMOID input_jitter: 0.1 noisy_top_k { k: 3 } }"
     "  balance { expert_bias {} } balance { switch_aux { coefficient: 0.1 } }"
     "  balance { importance_cv2 { importance: WEIGHTS } } balance { load_cv2 {} } }",
     "train { micro_batch: 1 } optimizer { zero1: false }"},
    {"relu",
     "vocab_size: 101 d_model: 48 layers: 2 attention { heads: 4 }"
     "moe { experts: 12 d_ff: 56 expert_kind: RELU capacity { factor: 8 }"
     "  router { top_k { k: 4 } } balance { importance_cv2 {} } balance { z_loss {} } }",
     "runtime { precision: FLOAT64 } parallel { exchange { rows: PER_CHOICE } }"},
    {"chunks",
     "vocab_size: 101 d_model: 48 layers: 2 attention { heads: 4 }"
     "moe { experts: 12 d_ff: 40 router { top_k { k: 2 } } }",
     "parallel { exchange { chunks: 2 } }"},
    {"bfloat16",
     "vocab_size: 101 d_model: 48 layers: 2 attention { heads: 4 } tied_head: true "
     "moe { experts: 12 d_ff: 40 router { top_k { k: 2 } } }",
     "runtime { precision: BF16 }"},
    {"bfloat16_gelu",
     "vocab_size: 101 d_model: 48 layers: 2 attention { heads: 4 }"
     "moe { experts: 12 d_ff: 70 expert_kind: GELU router { top_k { k: 2 } } }",
     "runtime { precision: BF16 }", false, false},
    {"bfloat16_biases",
     "vocab_size: 101 d_model: 48 layers: 2 attention { heads: 4 }"
     "moe { experts: 12 d_ff: 40 expert_bias_terms: true router { top_k { k: 2 } } }",
     "runtime { precision: BF16 }", false, false},
    {"all_to_all",
     "vocab_size: 101 d_model: 48 layers: 2 attention { heads: 4 }"
     "moe { experts: 12 d_ff: 40 router { top_k { k: 2 } } }",
     "parallel { exchange { transport: ALL_TO_ALL } }"},
    {"latent",
     "vocab_size: 101 d_model: 48 layers: 2"
     " attention { heads: 4 latent { q_lora_rank: 20 kv_lora_rank: 12 nope_head_dim: 8"
     "   rope_head_dim: 4 v_head_dim: 10 } }"
     " moe { experts: 12 d_ff: 24 shared_d_ff: 32"
     "   router { score: SIGMOID top_k { k: 3 } } }",
     ""},
    {"mtp",
     "vocab_size: 101 d_model: 48 layers: 2 attention { heads: 4 } ffn { d_ff: 72 }"
     " mtp { depth: 2 } moe { experts: 12 d_ff: 40 pattern { first: 1 }"
     "   router { top_k { k: 2 } } balance { switch_aux { coefficient: 0.1 } } }",
     "parallel { exchange { transport: ALL_TO_ALL } }", false, false},
    {"zero_computation",
     "vocab_size: 101 d_model: 48 layers: 2 attention { heads: 4 }"
     "moe { experts: 12 d_ff: 40 zero_computation { zero: 1 copy: 2 constant: 1 }"
     "  router { top_k { k: 3 } } }",
     "", true, false},
    {"allowed_experts",
     "vocab_size: 101 d_model: 48 layers: 2 attention { heads: 4 }"
     "moe { experts: 12 d_ff: 40 router { top_k { k: 2 } }"
     "  allowed_experts { tag { name: 'text' experts: '0-11' } } }",
     "", false, false},
    {"pad_to_capacity",
     "vocab_size: 101 d_model: 48 layers: 2 attention { heads: 4 }"
     "moe { experts: 12 d_ff: 40 capacity { factor: 1.25 pad_to_capacity: true }"
     "  router { top_k { k: 2 } } }",
     "parallel { exchange { rows: PER_CHOICE } }", false, false},
    {"dense", "vocab_size: 9000 d_model: 48 layers: 2 attention { heads: 4 } ffn { d_ff: 96 }",
     ""}};

const Case& case_of(const std::string& name) {
  const auto* found = std::find_if(std::begin(kCases), std::end(kCases),
                                   [&](const Case& c) { return name == c.name; });
  WITAN_CHECK(found != std::end(kCases), name, ": no such case");
  return *found;
}

configs::RunConfig run_of(const Case& c, Recompute recompute, int expert_parallel) {
  configs::RunConfig run =
      planned_run(c.model, "data { seq_len: 128 } train { global_batch: 12 }", c.more);
  run.mutable_train()->set_recompute(static_cast<configs::TrainConfig::Recompute>(recompute));
  if (run.model().has_moe()) run.mutable_parallel()->set_expert(expert_parallel);
  return run;
}

// A run on these ranks and its plan. Ranks that the test pretends to be on one node are.
struct Session {
  Session(const Case& c, Recompute recompute, int expert_parallel)
      : config(run_of(c, recompute, expert_parallel)),
        mesh(mpi(), config.model().has_moe() ? expert_parallel : 1, 120.0),
        runtime(start_runtime(config.runtime(), mpi())),
        run(config, mesh, runtime),
        subject(config),
        layout(configured_layout(config, mpi().size(), mpi().size())) {
    if (config.model().has_moe()) run.trainer().set_routing(std::make_unique<RandomRouting>());
    run.step();
    run.step();
  }
  configs::RunConfig config;
  Mesh mesh;
  Runtime runtime;
  StepRun run;
  PlanSubject subject;
  PlanLayout layout;
};

void expect_near(const char* what, std::int64_t planned, std::int64_t found, double tolerance) {
  EXPECT_NEAR(static_cast<double>(planned), static_cast<double>(found),
              static_cast<double>(found) * tolerance)
      << what;
}

void check_memory(Session& session, bool random_slots) {
  const MemoryPlan plan = plan_memory(session.subject, session.layout, 1.0);
  std::map<std::string, std::int64_t> found;
  for (const MemoryPart& part : session.run.engine().memory_parts()) found[part.name] = part.bytes;
  const std::int64_t states = [&] {
    std::int64_t elements = 0;
    for (const ParamInfo& info : session.subject.table.params()) {
      if (!info.trained()) elements += info.shape.size();
    }
    return elements * session.subject.value_bytes;
  }();
  EXPECT_EQ(plan.weights, found["weights"] + states);
  EXPECT_EQ(plan.rounded, found["weights in bf16"]);
  EXPECT_EQ(plan.gradients, found["gradients"]);
  EXPECT_EQ(plan.optimizer,
            static_cast<std::int64_t>(session.run.trainer().optimizer().state_bytes()));
  const ModelArenas& arenas = session.run.engine().model().arenas();
  const auto water = [](const Arena& arena) {
    return static_cast<std::int64_t>(arena.bytes_high_water());
  };
  // One rank gets what it sends: nothing is left to chance.
  const bool exact = session.layout.expert_parallel == 1 && !random_slots;
  const double tolerance = exact ? 0.0 : kArenaTolerance;
  expect_near("activations", plan.activations, water(arenas.saved), tolerance);
  expect_near("routing", plan.routing, water(arenas.choice), tolerance);
  expect_near("scratch", plan.scratch, water(arenas.scratch), tolerance);
}

void check_exchange_buffers(Session& session) {
  if (session.layout.expert_parallel == 1) return;
  const MemoryPlan plan = plan_memory(session.subject, session.layout, 1.0);
  for (const MemoryPart& part : session.run.engine().memory_parts()) {
    // Arenas of at least a megabyte, pages, and outboxes that grew before.
    constexpr double kSmallArenas = 6e6;
    if (part.name != "exchange") continue;
    EXPECT_LE(static_cast<double>(part.bytes),
              1.5 * static_cast<double>(plan.exchange) + kSmallArenas);
    EXPECT_GE(static_cast<double>(part.bytes), 0.5 * static_cast<double>(plan.exchange));
  }
}

// Bytes of one step by communicator and operation, summed over the ranks.
std::map<std::string, double> sent_in_a_step(Session& session) {
  std::vector<ProfileEvent> events;
  start_profiling(1 << 16);
  session.run.step();
  stop_profiling();
  EXPECT_EQ(take_profile_events(events), 0);
  std::map<std::string, double> sent = {{"expert", 0.0}, {"world", 0.0}, {"replica", 0.0}};
  for (const ProfileEvent& event : events) {
    if (event.kind != ProfileEvent::Kind::kCollective || event.communicator == nullptr) continue;
    const std::string operation = event.name, group = event.communicator;
    const bool gradients =
        operation == "reduce_scatter_sum" || operation == "all_gather" || operation == "all_reduce";
    // Small messages of the norm and of the metrics are no part of the plan.
    constexpr std::int64_t kSmall = 8192;
    if (group != "expert" && (!gradients || event.bytes < kSmall)) continue;
    sent[group] += static_cast<double>(event.bytes);
  }
  for (auto& [group, bytes] : sent) {
    session.mesh.world().all_reduce(view_of(&bytes, {1}), ReduceOp::kSum).wait();
  }
  return sent;
}

std::vector<int> expert_sizes() {
  const int ranks = mpi().size();
  return ranks == 1 ? std::vector<int>{1} : std::vector<int>{1, ranks};
}

TEST(PlanRun, MemoryAtEachLevelOfRecomputation) {
  for (const Case& c : kCases) {
    for (const int expert_parallel : expert_sizes()) {
      for (const Recompute recompute :
           {Recompute::kNone, Recompute::kMoeActivation, Recompute::kMoeLayer, Recompute::kLayer}) {
        const bool between = recompute != Recompute::kNone && recompute != Recompute::kLayer;
        if (between && !c.every_level) continue;
        SCOPED_TRACE(testing::Message() << c.name << ", EP " << expert_parallel << ", recompute "
                                        << name_of(recompute));
        Session session(c, recompute, expert_parallel);
        check_memory(session, c.random_slots);
        check_exchange_buffers(session);
      }
    }
  }
}

// By all-to-all, where every byte goes through a collective.
void check_bytes_sent(const Case& c) {
  for (const Recompute recompute : {Recompute::kNone, Recompute::kMoeLayer, Recompute::kLayer}) {
    if (recompute == Recompute::kMoeLayer && !c.every_level) continue;
    for (const char* more : {"", "train { micro_batch: 1 } optimizer { zero1: false }"}) {
      for (const int expert_parallel : expert_sizes()) {
        SCOPED_TRACE(testing::Message()
                     << more << ", EP " << expert_parallel << ", recompute " << name_of(recompute));
        const std::string text = std::string(c.more) + more;
        Session session({"", c.model, text.c_str(), false, true}, recompute, expert_parallel);
        std::map<std::string, double> sent = sent_in_a_step(session);
        std::map<std::string, double> planned;
        for (const TrafficPart& part : plan_traffic(session.subject, session.layout)) {
          EXPECT_EQ(part.far_bytes, 0.0);
          planned[part.group] += part.bytes() * mpi().size();
        }
        for (const char* group : {"expert", "world", "replica"}) {
          EXPECT_NEAR(planned[group], sent[group], kTrafficTolerance * sent[group]) << group;
        }
      }
    }
  }
}

TEST(PlanRun, BytesSent) { check_bytes_sent(case_of("all_to_all")); }
TEST(PlanRun, BytesSentWithMultiTokenPrediction) { check_bytes_sent(case_of("mtp")); }

}  // namespace
}  // namespace witan::test

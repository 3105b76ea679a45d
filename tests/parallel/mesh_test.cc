// Who stands where, at 1 to 4 ranks and every EP size that divides them.
#include "parallel/mesh.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace witan {
namespace {

constexpr double kWatchdogSeconds = 60.0;

const MpiEnvironment& mpi() {
  static const MpiEnvironment environment(nullptr, nullptr);
  return environment;
}

// World ranks of a communicator, in its order.
std::vector<std::int32_t> members(Communicator& group, int world_rank) {
  std::int32_t own = world_rank;
  std::vector<std::int32_t> all(static_cast<std::size_t>(group.size()));
  group.all_gather(view_of(&own, {1}), view_of(all.data(), {group.size()})).wait();
  return all;
}

TEST(MeshTest, GroupsOfEveryLayout) {
  const int ranks = mpi().size();
  for (int ep = 1; ep <= ranks; ++ep) {
    if (ranks % ep != 0) continue;
    const Mesh mesh(mpi(), ep, kWatchdogSeconds);
    const int me = mesh.world_rank();
    EXPECT_EQ(mesh.world_size(), ranks);
    EXPECT_EQ(mesh.expert_parallel(), ep);
    EXPECT_EQ(mesh.replicas(), ranks / ep);
    EXPECT_EQ(mesh.expert().rank(), me % ep);
    EXPECT_EQ(mesh.replica().rank(), me / ep);

    std::vector<std::int32_t> neighbours, replicas, world;
    for (int rank = 0; rank < ranks; ++rank) {
      world.push_back(rank);
      if (rank / ep == me / ep) neighbours.push_back(rank);
      if (rank % ep == me % ep) replicas.push_back(rank);
    }
    EXPECT_EQ(members(mesh.world(), me), world);
    EXPECT_EQ(members(mesh.expert(), me), neighbours);
    EXPECT_EQ(members(mesh.replica(), me), replicas);
    EXPECT_EQ(mesh.nodes(), 1);
    EXPECT_EQ(mesh.node(), 0);
    EXPECT_FALSE(mesh.experts_cross_nodes());
  }
}

TEST(MeshTest, EveryRankKnowsItsNode) {
  EXPECT_EQ(mpi().local_rank(), mpi().rank());
  EXPECT_EQ(mpi().local_size(), mpi().size());
}

TEST(MeshTest, ExpertParallelismMustDivideTheRanks) {
  EXPECT_THROW(Mesh(mpi(), mpi().size() + 1, kWatchdogSeconds), Error);
  EXPECT_THROW(Mesh(mpi(), 0, kWatchdogSeconds), Error);
}

TEST(MeshTest, SelfIsOneRank) {
  const Mesh mesh = Mesh::self();
  EXPECT_EQ(mesh.world_size(), 1);
  EXPECT_EQ(mesh.expert_parallel(), 1);
  EXPECT_EQ(mesh.replicas(), 1);
  EXPECT_EQ(mesh.world().name(), "world");
}

configs::RunConfig run_with(int experts) {
  configs::RunConfig run;
  if (experts > 0) run.mutable_model()->mutable_moe()->set_experts(experts);
  run.mutable_train()->set_global_batch(12);
  return run;
}

std::vector<std::string> failures(const configs::RunConfig& run, int ranks) {
  std::vector<std::string> found;
  check_parallel(run, ranks, [&](const std::string& field, const std::string& message) {
    found.push_back(field + ": " + message);
  });
  return found;
}

using Strings = std::vector<std::string>;

TEST(ParallelConfigTest, ExpertParallelismByDefault) {
  EXPECT_EQ(resolve_expert_parallel(run_with(8), 4), 4);
  EXPECT_EQ(resolve_expert_parallel(run_with(8), 6), 2);
  EXPECT_EQ(resolve_expert_parallel(run_with(6), 3), 3);
  EXPECT_EQ(resolve_expert_parallel(run_with(8), 16), 8);
  EXPECT_EQ(resolve_expert_parallel(run_with(7), 4), 1);
  EXPECT_EQ(resolve_expert_parallel(run_with(0), 4), 1);
  configs::RunConfig run = run_with(8);
  run.mutable_parallel()->set_expert(2);
  EXPECT_EQ(resolve_expert_parallel(run, 4), 2);
}

TEST(ParallelConfigTest, GoodLayoutsPass) {
  configs::RunConfig run = run_with(8);
  EXPECT_EQ(failures(run, 4), Strings{});
  run.mutable_parallel()->set_expert(2);
  run.mutable_train()->set_micro_batch(3);
  EXPECT_EQ(failures(run, 4), Strings{});
  EXPECT_EQ(failures(run_with(0), 3), Strings{});
}

TEST(ParallelConfigTest, MistakesSayWhatWouldBeRight) {
  configs::RunConfig run = run_with(8);
  run.mutable_parallel()->set_expert(3);
  EXPECT_EQ(failures(run, 4),
            (Strings{"parallel.expert: 3 does not divide the 4 ranks; use one of 1, 2, 4, or "
                     "another number of ranks",
                     "parallel.expert: 3 does not divide the 8 experts of model.moe.experts; use "
                     "one of 1, 2, 4, 8"}));
  run.mutable_parallel()->set_expert(2);
  EXPECT_EQ(failures(run, 10), (Strings{"train.global_batch: 12 sequences do not divide over 10 "
                                        "ranks; use a multiple of 10, such as 20"}));
  run.mutable_train()->set_micro_batch(4);
  EXPECT_EQ(failures(run, 2), (Strings{"train.micro_batch: 4 does not divide the 6 sequences of "
                                       "each rank (global_batch 12 over 2 ranks); use one of 1, "
                                       "2, 3, 6"}));
  configs::RunConfig narrow = run_with(8);
  narrow.mutable_runtime()->set_precision(configs::RuntimeConfig::FLOAT64);
  narrow.mutable_parallel()->mutable_exchange()->set_network_type(
      configs::ExchangeConfig::BFLOAT16);
  EXPECT_EQ(failures(narrow, 2),
            (Strings{"parallel.exchange.network_type: BFLOAT16 rounds float, but runtime.precision "
                     "is FLOAT64; use AS_COMPUTED, or another precision"}));
  configs::RunConfig dense = run_with(0);
  dense.mutable_parallel()->set_expert(2);
  EXPECT_EQ(failures(dense, 4), (Strings{"parallel.expert: 2, but the model has no experts (no "
                                         "model.moe); leave it out"}));
}

// A run on GPUs can be planned by a build without them.
TEST(ParallelConfigTest, OnlyNcclOverlapsTheReductionOfGradients) {
  const Strings refused{
      "parallel.overlap_gradient_reduction: is for NCCL between GPUs, nothing overlaps here; leave "
      "it out"};
  configs::RunConfig run = run_with(8);
  configs::ParallelConfig& parallel = *run.mutable_parallel();
  parallel.set_overlap_gradient_reduction(false);
  EXPECT_EQ(failures(run, 4), refused);
  run.set_device(configs::CUDA);
  EXPECT_EQ(failures(run, 4), Strings{});
  parallel.set_device_transport(configs::ParallelConfig::STAGED_MPI);
  EXPECT_EQ(failures(run, 4), refused);
  parallel.set_overlap_gradient_reduction(true);
  EXPECT_EQ(failures(run, 4), Strings{});
}

TEST(ParallelConfigTest, ExchangeAndCapacityMustFit) {
  configs::RunConfig run = run_with(8);
  run.mutable_model()->mutable_moe()->mutable_router()->mutable_top_k()->set_k(3);
  configs::ExchangeConfig& exchange = *run.mutable_parallel()->mutable_exchange();
  exchange.set_max_rows(8);  // 2 experts of each of 4 ranks
  EXPECT_EQ(failures(run, 4), Strings{});
  exchange.set_max_rows(7);
  EXPECT_EQ(failures(run, 4),
            Strings{"parallel.exchange.max_rows: found 7; at least 8, so that a token of each of 4 "
                    "ranks finds room with all its experts"});
  exchange.set_max_rows(100);
  exchange.set_chunks(2);
  EXPECT_EQ(failures(run, 4), Strings{"parallel.exchange.max_rows: and chunks both cut a "
                                      "micro-batch into parts; remove one of the two"});
  exchange.set_chunks(1);
  run.mutable_model()->mutable_moe()->mutable_capacity()->set_pad_to_capacity(true);
  exchange.set_rows(configs::ExchangeConfig::PER_CHOICE);
  EXPECT_EQ(failures(run, 4),
            Strings{"parallel.exchange.max_rows: cuts a micro-batch by what the router chose; "
                    "model.moe.capacity.pad_to_capacity is for shapes that never change: remove "
                    "one of the two"});
  exchange.set_max_rows(0);
  EXPECT_EQ(failures(run, 4), Strings{});
  exchange.set_rows(configs::ExchangeConfig::PER_RANK);
  EXPECT_EQ(failures(run, 4),
            Strings{"parallel.exchange.rows: PER_RANK sends as many rows as the router happens to "
                    "need; model.moe.capacity.pad_to_capacity needs PER_CHOICE"});
  exchange.set_rows(configs::ExchangeConfig::PER_CHOICE);
  exchange.set_chunks(2);
  EXPECT_EQ(failures(run, 4),
            Strings{"parallel.exchange.chunks: found 2; the parts of a micro-batch have no "
                    "capacity of their own to be padded to by model.moe.capacity.pad_to_capacity; "
                    "use 1"});
}

}  // namespace
}  // namespace witan

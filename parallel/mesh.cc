#include "parallel/mesh.h"

#include <algorithm>
#include <string>

#include "core/model/param_table.h"
#include "core/model/rounds.h"

namespace witan {
namespace {

std::string divisors(std::int64_t number) {
  std::string text;
  for (std::int64_t divisor = 1; divisor <= number; ++divisor) {
    if (number % divisor == 0) text += (text.empty() ? "" : ", ") + std::to_string(divisor);
  }
  return text;
}

std::string count_of(std::int64_t n, const char* what) {
  return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

int largest_divisor(int ranks, std::int64_t experts) {
  int best = 1;
  for (int divisor = 2; divisor <= ranks; ++divisor) {
    if (ranks % divisor == 0 && experts % divisor == 0) best = divisor;
  }
  return best;
}

void check_expert_parallel(const configs::RunConfig& run, int ranks, const configs::Fail& fail) {
  const char* const field = "parallel.expert";
  const std::int64_t expert_parallel = run.parallel().expert();
  if (!run.model().has_moe()) {
    if (expert_parallel != 1) {
      fail(field, std::to_string(expert_parallel) +
                      ", but the model has no experts (no model.moe); leave it out");
    }
    return;
  }
  if (ranks % expert_parallel != 0) {
    fail(field, std::to_string(expert_parallel) + " does not divide the " +
                    count_of(ranks, "rank") + "; use one of " + divisors(ranks) +
                    ", or another number of ranks");
  }
  const std::int64_t experts = run.model().moe().experts();
  if (experts % expert_parallel != 0) {
    fail(field, std::to_string(expert_parallel) + " does not divide the " +
                    count_of(experts, "expert") + " of model.moe.experts; use one of " +
                    divisors(experts));
  }
}

void check_batch(const configs::TrainConfig& train, int ranks, const configs::Fail& fail) {
  const std::int64_t global_batch = train.global_batch();
  if (global_batch % ranks != 0) {
    const std::int64_t above = (global_batch / ranks + 1) * ranks;
    fail("train.global_batch", std::to_string(global_batch) + " sequences do not divide over " +
                                   count_of(ranks, "rank") + "; use a multiple of " +
                                   std::to_string(ranks) + ", such as " + std::to_string(above));
    return;
  }
  const std::int64_t per_rank = global_batch / ranks;
  if (train.has_micro_batch() && per_rank % train.micro_batch() != 0) {
    fail("train.micro_batch", std::to_string(train.micro_batch()) + " does not divide the " +
                                  count_of(per_rank, "sequence") + " of each rank (global_batch " +
                                  std::to_string(global_batch) + " over " +
                                  count_of(ranks, "rank") + "); use one of " + divisors(per_rank));
  }
}

// What exchange and capacity want of each other.
void check_exchange(const configs::RunConfig& run, int ranks, const configs::Fail& fail) {
  const configs::ExchangeConfig& exchange = run.parallel().exchange();
  const bool pads = run.model().moe().capacity().pad_to_capacity();
  if (pads && exchange.rows() != configs::ExchangeConfig::PER_CHOICE) {
    fail("parallel.exchange.rows",
         "PER_RANK sends as many rows as the router happens to need; "
         "model.moe.capacity.pad_to_capacity needs PER_CHOICE");
  }
  if (pads && exchange.chunks() > 1) {
    fail("parallel.exchange.chunks",
         detail::concat("found ", exchange.chunks(),
                        "; the parts of a micro-batch have no capacity of their own to be padded "
                        "to by model.moe.capacity.pad_to_capacity; use 1"));
  }
  if (exchange.max_rows() == 0) return;
  if (pads) {
    fail("parallel.exchange.max_rows",
         "cuts a micro-batch by what the router chose; model.moe.capacity.pad_to_capacity is for "
         "shapes that never change: remove one of the two");
  }
  if (exchange.chunks() > 1) {
    fail("parallel.exchange.max_rows",
         "and chunks both cut a micro-batch into parts; remove one of the two");
  }
  const int expert_parallel = resolve_expert_parallel(run, ranks);
  const std::int64_t experts = run.model().moe().experts();
  if (expert_parallel < 1 || experts < expert_parallel) return;  // said already
  const std::int64_t fewest =
      fewest_max_rows(ModelDims(run.model()).choices, experts, expert_parallel);
  if (exchange.max_rows() < fewest) {
    fail("parallel.exchange.max_rows",
         detail::concat("found ", exchange.max_rows(), "; at least ", fewest,
                        ", so that a token of each of ", expert_parallel,
                        " ranks finds room with all its experts"));
  }
}

}  // namespace

Mesh::Mesh(const MpiEnvironment& mpi, int expert_parallel, double watchdog_seconds,
           int (*node_of_rank)(int)) {
  const int ranks = mpi.size();
  WITAN_CHECK(expert_parallel >= 1 && ranks % expert_parallel == 0, "expert parallelism of ",
              expert_parallel, " does not divide ", ranks, " ranks");
  const int position = mpi.rank() % expert_parallel;
  const int replica = mpi.rank() / expert_parallel;
  const int replicas = ranks / expert_parallel;
  world_ = ranks == 1 ? make_self_communicator("world") : mpi.world(watchdog_seconds);
  expert_ = expert_parallel == 1 ? make_self_communicator("expert")
                                 : mpi.split(replica, "expert", watchdog_seconds);
  replica_ = replicas == 1 ? make_self_communicator("replica")
                           : mpi.split(position, "replica", watchdog_seconds);

  node_ = mpi.node();
  nodes_ = mpi.nodes();
  if (node_of_rank != nullptr) {
    node_ = node_of_rank(mpi.rank());
    nodes_ = 1;
    for (int rank = 0; rank < ranks; ++rank) nodes_ = std::max(nodes_, node_of_rank(rank) + 1);
  }
  // The lowest and the highest node of each group, then whether any group has two.
  std::int32_t ends[2] = {node_, -node_};
  expert_->all_reduce(view_of(ends, {2}), ReduceOp::kMax).wait();
  std::int32_t crosses = ends[0] != -ends[1] ? 1 : 0;
  world_->all_reduce(view_of(&crosses, {1}), ReduceOp::kMax).wait();
  experts_cross_nodes_ = crosses != 0;
}

Mesh Mesh::self() {
  Mesh mesh;
  mesh.world_ = make_self_communicator("world");
  mesh.expert_ = make_self_communicator("expert");
  mesh.replica_ = make_self_communicator("replica");
  return mesh;
}

int resolve_expert_parallel(const configs::RunConfig& run, int ranks) {
  if (run.parallel().has_expert()) return static_cast<int>(run.parallel().expert());
  return run.model().has_moe() ? largest_divisor(ranks, run.model().moe().experts()) : 1;
}

void check_parallel(const configs::RunConfig& run, int ranks, const configs::Fail& fail) {
  if (run.parallel().has_expert()) check_expert_parallel(run, ranks, fail);
  check_batch(run.train(), ranks, fail);
  if (run.model().has_moe()) check_exchange(run, ranks, fail);
  check_device_transport(run, fail);
  if (run.runtime().precision() == configs::RuntimeConfig::FLOAT64 &&
      run.parallel().exchange().network_type() == configs::ExchangeConfig::BFLOAT16) {
    fail("parallel.exchange.network_type",
         "BFLOAT16 rounds float, but runtime.precision is FLOAT64; use AS_COMPUTED, or another "
         "precision");
  }
}

// Nothing that is written may be without effect.
void check_device_transport(const configs::RunConfig& run, const configs::Fail& fail) {
  const configs::ParallelConfig& parallel = run.parallel();
  const bool nccl = run.device() == configs::CUDA &&
                    parallel.device_transport() != configs::ParallelConfig::STAGED_MPI;
  if (!parallel.overlap_gradient_reduction() && !nccl) {
    fail("parallel.overlap_gradient_reduction",
         "is for NCCL between GPUs, nothing overlaps here; leave it out");
  }
  if (run.device() == configs::CPU) {
    if (parallel.device_transport() == configs::ParallelConfig::AUTO) return;
    fail("parallel.device_transport", "is for device: CUDA; this run's device is CPU");
    return;
  }
  if (parallel.exchange().transport() == configs::ExchangeConfig::SHARED_WINDOWS) {
    fail("parallel.exchange.transport",
         "SHARED_WINDOWS shares host memory, but the rows of device CUDA are in that of GPUs; "
         "leave it out, and see parallel.device_transport");
  }
}

}  // namespace witan

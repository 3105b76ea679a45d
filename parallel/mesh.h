// Which rank plays which part. Only this file knows which ranks form which group.
//
//   world = EP x DP. Rank r stands at expert position r % EP and replica r / EP: the ranks of one
//   expert-parallel group are neighbours, so that tokens stay inside a node where they can. Dense
//   tensors are held by the world; an expert tensor's shard by the ranks of the same expert
//   position. Data is split over all ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "configs/config_error.h"
#include "configs/load.h"
#include "core/base/context.h"
#include "parallel/communicator.h"
#include "parallel/mpi_environment.h"

namespace witan {

// What carries tensors between GPUs: NCCL, or MPI through pinned host memory. kAuto: NCCL where
// every rank has a GPU of its own and the build has NCCL.
enum class DeviceTransport { kAuto, kNccl, kStagedMpi };
DeviceTransport device_transport(const configs::RunConfig& run);

class Mesh {
 public:
  // Collective over the world; EP must divide its size. Groups of one rank need no MPI.
  // `node_of_rank` for tests that pretend several nodes; null: asks MPI.
  Mesh(const MpiEnvironment& mpi, int expert_parallel, double watchdog_seconds,
       int (*node_of_rank)(int) = nullptr);
  // One rank without MPI.
  static Mesh self();

  // From here on the groups also take tensors on ctx.device, whose work is on ctx.stream; nothing
  // changes on the CPU. Collective over the world. UserError where NCCL is asked for and two ranks
  // share a GPU, or the build has none.
  void use_device(const Context& ctx, DeviceTransport transport, double watchdog_seconds);
  bool on_nccl() const { return on_nccl_; }
  // What carries those tensors, for messages: "NCCL"; empty on the CPU.
  const std::string& device_transport() const { return device_transport_; }

  int world_size() const { return world_->size(); }
  int world_rank() const { return world_->rank(); }
  int expert_parallel() const { return expert_->size(); }  // EP
  int replicas() const { return replica_->size(); }        // DP of the expert tensors
  int node() const { return node_; }
  int nodes() const { return nodes_; }
  // Some expert-parallel group has ranks on several nodes: tokens then cross the network. The same
  // answer on every rank.
  bool experts_cross_nodes() const { return experts_cross_nodes_; }

  Communicator& world() const { return *world_; }      // holds the dense tensors
  Communicator& expert() const { return *expert_; }    // exchanges tokens
  Communicator& replica() const { return *replica_; }  // holds the same expert shard

 private:
  Mesh() = default;
  std::unique_ptr<Communicator> world_, expert_, replica_;
  int node_ = 0, nodes_ = 1;
  bool experts_cross_nodes_ = false;
  bool on_nccl_ = false;
  std::string device_transport_;
};

// EP size to use: parallel.expert, or the largest divisor of `ranks` that divides the experts (1
// without MoE).
int resolve_expert_parallel(const configs::RunConfig& run, int ranks);

// Fields that must fit the number of ranks: EP divides the ranks and the experts, the global batch
// divides over ranks and micro-batches.
void check_parallel(const configs::RunConfig& run, int ranks, const configs::Fail& fail);
// Of these the ones about how tensors travel between devices, whatever the ranks.
void check_device_transport(const configs::RunConfig& run, const configs::Fail& fail);

}  // namespace witan

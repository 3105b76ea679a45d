// The collectives of a mesh whose tensors lie on GPUs.
#include <map>
#include <sstream>
#include <string>

#include "core/base/cuda/stream_cuda.h"
#include "core/base/error.h"
#include "parallel/device_communicator.h"
#include "parallel/mesh.h"

namespace witan {
namespace {

// "ranks 0 and 1 have GPU 0000:3b:00.0 of node 0 together"; empty if no two ranks share one. The
// same on every rank. Collective.
std::string shared_gpu(Communicator& world, int node, const Context& ctx) {
  std::string all =
      world.gather_bytes(detail::concat(node, ' ', cuda::bus_id(ctx.device), '\n'), 0);
  world.broadcast_bytes(all, 0);
  std::istringstream lines(all);
  std::map<std::string, int> owner;
  std::string gpu_node, gpu;
  for (int rank = 0; lines >> gpu_node >> gpu; ++rank) {
    const auto [first, is_new] = owner.emplace(gpu_node + ' ' + gpu, rank);
    if (is_new) continue;
    return detail::concat("ranks ", first->second, " and ", rank, " have GPU ", gpu, " of node ",
                          gpu_node, " together");
  }
  return {};
}

}  // namespace

DeviceTransport device_transport(const configs::RunConfig& run) {
  switch (run.parallel().device_transport()) {
    case configs::ParallelConfig::NCCL: return DeviceTransport::kNccl;
    case configs::ParallelConfig::STAGED_MPI: return DeviceTransport::kStagedMpi;
    default: return DeviceTransport::kAuto;
  }
}

void Mesh::use_device(const Context& ctx, DeviceTransport transport, double watchdog_seconds) {
  if (ctx.device.is_cpu()) return;
  const std::string shared = shared_gpu(*world_, node_, ctx);
  if (transport == DeviceTransport::kNccl && !shared.empty()) {
    throw_user_error("parallel.device_transport: NCCL needs a GPU for each rank, but ", shared,
                     "; start fewer ranks, or use STAGED_MPI");
  }
  const bool nccl = transport == DeviceTransport::kNccl ||
                    (transport == DeviceTransport::kAuto && shared.empty() && built_with_nccl());
  for (std::unique_ptr<Communicator>* group : {&world_, &expert_, &replica_}) {
    if ((*group)->size() == 1) {
      *group = make_self_communicator((*group)->name(), ctx);
    } else if (nccl) {
      *group = make_nccl_communicator(std::move(*group), ctx, watchdog_seconds);
    } else {
      *group = make_staged_communicator(std::move(*group), ctx);
    }
  }
  on_nccl_ = nccl;
  device_transport_ = nccl ? "NCCL" : "MPI through pinned memory";
}

}  // namespace witan

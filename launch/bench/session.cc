#include "launch/bench/session.h"

#include <sched.h>

#include "launch/bench/device_product.h"

namespace witan {

bool BenchSession::leader_may_take_all() const {
  if (on_cuda()) return false;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  // Rank 0 asks and the others believe it: ranks may be bound to different cores.
  std::int32_t enough = mpi.nodes() == 1 && sched_getaffinity(0, sizeof mask, &mask) == 0 &&
                                CPU_COUNT(&mask) >= all_threads()
                            ? 1
                            : 0;
  world.broadcast(view_of(&enough, {1}), 0).wait();
  return enough == 1;
}

std::string BenchSession::precision() const { return precision_name(runtime.ctx, runtime.dtype); }

Mesh BenchSession::mesh(int expert_parallel) const {
  Mesh mesh(mpi, expert_parallel, 0.0);
  mesh.use_device(runtime.ctx, transport, 0.0);
  return mesh;
}

Mesh alone_on(const Context& ctx) {
  Mesh mesh = Mesh::self();
  mesh.use_device(ctx, DeviceTransport::kAuto, 0.0);
  return mesh;
}

Runtime full_precision(Runtime runtime) {
  runtime.ctx = runtime.ctx.in_full();
  return runtime;
}

double sum_over_ranks(Communicator& world, double value) {
  world.all_reduce(view_of(&value, {1}), ReduceOp::kSum).wait();
  return value;
}

}  // namespace witan

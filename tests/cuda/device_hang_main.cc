// A small program for device_hang_test.sh: GPUs reduce together, until rank 1 sleeps instead. The
// others leave the operation to the device and are then stuck in a wait for their stream.
#include <chrono>
#include <string>
#include <thread>

#include "core/base/stream.h"
#include "core/tensor/tensor.h"
#include "core/tensor/transfer.h"
#include "parallel/device_communicator.h"
#include "parallel/mpi_environment.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan {
namespace {

void run(const MpiEnvironment& mpi, bool sleeps, double watchdog_seconds) {
  const DeviceStream stream({DeviceType::kCuda, mpi.local_rank()});
  const Context& ctx = stream.context();
  const auto group = make_nccl_communicator(mpi.split(0, "expert", 0.0), ctx, watchdog_seconds);
  const std::vector<float> ones(5, 1.0F);
  const Tensor data = transferred(ctx, view_of(ones.data(), {5}), ctx.device);
  for (int i = 0; i < 3; ++i) group->all_reduce(data, ReduceOp::kSum).wait_on(ctx);
  synchronize(ctx);
  if (sleeps && mpi.rank() == 1) std::this_thread::sleep_for(std::chrono::minutes(10));
  for (int i = 0; i < 3; ++i) group->all_reduce(data, ReduceOp::kSum).wait_on(ctx);
  synchronize(ctx);
}

}  // namespace
}  // namespace witan

int main(int argc, char** argv) {
  const witan::MpiEnvironment mpi(&argc, &argv);
  witan::cuda_on_cpu::set_device_count(mpi.size());
  witan::run(mpi, argv[1] == std::string("sleep"), std::stod(argv[2]));
}

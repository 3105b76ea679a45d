// A small program for device_hang_test.sh: GPUs reduce together, leave it to their streams and wait
// for those. In between rank 1 goes to sleep ("sleep"), or all hosts pause for longer than the
// watchdog's limit with nothing open ("pause").
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

void run(const MpiEnvironment& mpi, const std::string& how, double watchdog_seconds) {
  const DeviceStream stream({DeviceType::kCuda, mpi.local_rank()});
  const Context& ctx = stream.context();
  const auto group = make_nccl_communicator(mpi.split(0, "expert", 0.0), ctx, watchdog_seconds);
  const std::vector<float> ones(5, 1.0F);
  const Tensor data = transferred(ctx, view_of(ones.data(), {5}), ctx.device);
  for (int i = 0; i < 3; ++i) group->all_reduce(data, ReduceOp::kSum).wait_on(ctx);
  synchronize(ctx);
  if (how == "pause")
    std::this_thread::sleep_for(std::chrono::duration<double>(2.5 * watchdog_seconds));
  if (how == "sleep" && mpi.rank() == 1) std::this_thread::sleep_for(std::chrono::minutes(10));
  for (int i = 0; i < 3; ++i) group->all_reduce(data, ReduceOp::kSum).wait_on(ctx);
  synchronize(ctx);
}

}  // namespace
}  // namespace witan

int main(int argc, char** argv) {
  const witan::MpiEnvironment mpi(&argc, &argv);
  witan::cuda_on_cpu::set_device_count(mpi.size());
  witan::run(mpi, argv[1], std::stod(argv[2]));
}

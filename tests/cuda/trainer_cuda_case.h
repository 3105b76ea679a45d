// A training run on the stand-in for a GPU, one for each rank, to compare with the same run on the
// CPU.
#pragma once

#include <string>
#include <vector>

#include "core/tensor/host_twin.h"
#include "parallel/device_communicator.h"
#include "tests/launch/trainer_case.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {

// Every rank has a GPU of its own, whose number is that of the rank.
class OnGpus : public ::testing::Test {
 protected:
  void SetUp() override { cuda_on_cpu::set_device_count(world().size()); }
  void TearDown() override {
    for (const std::string& fault : cuda_on_cpu::take_faults()) ADD_FAILURE() << fault;
  }
};

inline std::vector<DeviceTransport> transports() {
  if (world().size() == 1) return {DeviceTransport::kAuto};
  return {DeviceTransport::kNccl, DeviceTransport::kStagedMpi};
}

class CudaSession {
 public:
  CudaSession(const configs::RunConfig& run, int expert_parallel, DeviceTransport transport)
      : runtime_(Session::runtime_of(run)), mesh_(mesh_of(expert_parallel)) {
    open_stream(gpu_of_rank(mpi().local_rank()), runtime_);
    mesh_.use_device(runtime_.ctx, transport, kWatchdogSeconds);
    session_.emplace(run, mesh_, runtime_);
  }
  ~CudaSession() {
    session_.reset();
    world().barrier();
  }
  CudaSession(const CudaSession&) = delete;
  CudaSession& operator=(const CudaSession&) = delete;

  Session& operator*() { return *session_; }
  Session* operator->() { return &*session_; }
  const Mesh& mesh() const { return mesh_; }

 private:
  Runtime runtime_;
  Mesh mesh_;
  std::optional<Session> session_;
};

// Values or gradients of two runs of the same layout, one of them on a GPU.
inline void expect_tensors_near(Session& found, Session& expected, bool gradients,
                                double tolerance) {
  const ParamTable& table = found.engine().table();
  const ParamStore& params = found.engine().params();
  for (int id = 0; id < table.size(); ++id) {
    if (gradients && !table[id].trained()) continue;
    const HostTwin twin(params.context(), gradients ? params.grad(id) : params.value(id));
    const ParamStore& others = expected.engine().params();
    expect_norm_near(table[id].name, twin.read().view(),
                     gradients ? others.grad(id) : others.value(id), tolerance);
  }
}

}  // namespace witan::test

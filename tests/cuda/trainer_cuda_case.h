// A training run on GPUs to compare with the same run on the CPU. The same test bodies run on the
// stand-in (trainer_stand_in_fixture.cc) and on a GPU (trainer_gpu_fixture.cc).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/tensor/host_twin.h"
#include "parallel/device_communicator.h"
#include "tests/launch/trainer_case.h"

namespace witan::test {

// Every rank has a GPU of its own, whose number is that of the rank.
class OnGpus : public ::testing::Test {
 protected:
  void SetUp() override;
  // No fault was found.
  void TearDown() override;
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

constexpr double kStepTolerance = 1e-11;  // float64: gradients and figures of one step

// One step's gradients and figures at the largest expert parallelism.
inline void expect_same_gradients(const Corpus& corpus, const std::string& balance,
                                  const std::string& change) {
  const configs::RunConfig run =
      run_config(corpus, balance, "runtime { precision: FLOAT64 } " + change);
  const int ep = expert_parallel_sizes(run).back();
  const Mesh mesh = mesh_of(ep);
  Session expected(run, mesh);
  CudaSession found(run, ep, DeviceTransport::kAuto);
  const StepMetrics metrics = expected.trainer().gradients(false);
  const StepMetrics on_gpu = found->trainer().gradients(false);
  expect_metrics_near(on_gpu, metrics, kStepTolerance);
  for (std::size_t i = 0; i < metrics.layers.size(); ++i) {
    EXPECT_EQ(on_gpu.layers[i].dropped, metrics.layers[i].dropped);
  }
  expect_tensors_near(*found, expected, true, kStepTolerance);
}

}  // namespace witan::test

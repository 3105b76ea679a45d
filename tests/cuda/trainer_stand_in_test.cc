// Training with what only the stand-in can do: red zones between the tensors of every arena, and
// memory that is poisoned again each time it is handed out.
#include <gtest/gtest.h>

#include "tests/cuda/trainer_cuda_case.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {
namespace {

class GuardedArenas : public OnGpus {
 protected:
  void SetUp() override {
    OnGpus::SetUp();
    cuda_on_cpu::set_arena_guards(true);
  }
  void TearDown() override {
    cuda_on_cpu::set_arena_guards(false);
    OnGpus::TearDown();
  }
};

TEST_F(GuardedArenas, EveryTensorKeepsToItselfAndIsWrittenBeforeItIsRead) {
  const Corpus corpus;
  const configs::RunConfig run = run_config(
      corpus, invariant_balance(true), "optimizer { zero1: true } runtime { precision: FLOAT64 } ");
  const int ep = expert_parallel_sizes(run).back();
  const Mesh mesh = mesh_of(ep);
  Session expected(run, mesh);
  double losses[2];
  for (double& loss : losses) loss = expected.trainer().step(false).loss;
  for (const DeviceTransport transport : transports()) {
    CudaSession found(run, ep, transport);
    for (const double loss : losses) {
      expect_near("loss", found->trainer().step(false).loss, loss, 1e-11);
    }
  }
}

}  // namespace
}  // namespace witan::test

// Gradients that are reduced behind the backward of the layers before: the same bits as when they
// are reduced at its end, in every order of the streams; and a missing event is noticed.
#include <gtest/gtest.h>

#include <cstring>

#include "core/base/stream.h"
#include "tests/cuda/trainer_cuda_case.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {
namespace {

class ReductionOverlap : public OnGpus {
 protected:
  void SetUp() override {
    OnGpus::SetUp();
    if (world().size() == 1) GTEST_SKIP() << "one rank reduces nothing";
  }
  // Another order on each rank.
  static void choose_order(std::uint64_t order) {
    cuda_on_cpu::set_seed(order * 100 + static_cast<std::uint64_t>(world().rank()));
  }
};

// Both groups, in host memory.
std::vector<float> read(Session& session, bool gradients) {
  const ParamStore& params = session.engine().params();
  std::vector<float> all;
  for (const ParamGroup group : {ParamGroup::kDense, ParamGroup::kExpert}) {
    const HostTwin twin(params.context(),
                        gradients ? params.flat_grads(group) : params.flat_values(group));
    const TensorView flat = twin.read().view();
    all.insert(all.end(), flat.as<float>(), flat.as<float>() + flat.size());
  }
  return all;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST_F(ReductionOverlap, SameBitsInEveryOrder) {
  const Corpus corpus;
  for (const bool zero1 : {false, true}) {
    const std::string sharding = zero1 ? "optimizer { zero1: true } " : "";
    configs::RunConfig run =
        run_config(corpus, invariant_balance(false), several_micro_batches() + sharding);
    for (const int ep : {1, world().size()}) {
      if (!zero1 && ep > 1) continue;  // the world's collectives are those of EP 1
      SCOPED_TRACE(testing::Message() << "EP " << ep << ", zero1 " << zero1);
      std::vector<float> expected;
      for (std::uint64_t order = 0; order < 3; ++order) {
        choose_order(order);
        run.mutable_parallel()->set_overlap_gradient_reduction(order > 0);
        CudaSession session(run, ep, DeviceTransport::kNccl);
        session->trainer().step(false);
        const std::vector<float> found = read(*session, false);
        if (order == 0) expected = found;
        EXPECT_TRUE(same_bits(found, expected)) << "order " << order;
      }
    }
  }
}

// The communicators wait for a stream on which nothing happens.
TEST_F(ReductionOverlap, AMissingEventBehindTheBackwardIsNoticed) {
  const Corpus corpus;
  const configs::RunConfig run = run_config(corpus, invariant_balance(false));
  const auto gradients_of = [&](bool with_event) {
    Runtime runtime = Session::runtime_of(run);
    open_stream(gpu_of_rank(mpi().local_rank()), runtime);
    const DeviceStream idle(runtime.ctx.device);
    Mesh mesh = mesh_of(1);
    mesh.use_device(with_event ? runtime.ctx : idle.context(), DeviceTransport::kNccl,
                    kWatchdogSeconds);
    std::vector<float> found;
    {
      Session session(run, mesh, runtime);
      session.trainer().gradients(false);
      found = read(session, true);
    }
    world().barrier();
    return found;
  };
  choose_order(0);
  const std::vector<float> expected = gradients_of(true);
  std::int64_t wrong = 0;
  for (std::uint64_t order = 1; order < 3; ++order) {
    choose_order(order);
    wrong += same_bits(gradients_of(false), expected) ? 0 : 1;
  }
  world().all_reduce(view_of(&wrong, {1}), ReduceOp::kSum).wait();
  EXPECT_GT(wrong, 0);
}

}  // namespace
}  // namespace witan::test

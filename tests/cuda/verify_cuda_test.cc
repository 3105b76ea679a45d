// `witan verify` on GPUs, which the stand-in executes: all is well, and a fault that a test plants
// is found by the check that looks for it.
#include "launch/verify/verify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "core/tensor/host_twin.h"
#include "tests/cuda/trainer_cuda_case.h"
#include "tests/verify/verify_case.h"

namespace witan::test {
namespace {

using VerifyCuda = OnGpus;

configs::RunConfig cuda_config(const std::string& change = "") {
  return verify_config("device: CUDA model { moe { experts: 4 } } train { global_batch: 4 } " +
                       change);
}

VerifyReport verify_with(const configs::RunConfig& run, const std::vector<std::string>& checks,
                         const VerifyHooks& hooks = {}) {
  return verify(run, {checks, "", hooks}, {}, mpi());
}

void expect_all_passed(const VerifyReport& report, const std::set<std::string>& checks) {
  std::set<std::string> found;
  for (const CheckResult& result : report.results) {
    EXPECT_TRUE(result.passed()) << result_line(result);
    if (!result.skipped.empty()) continue;
    EXPECT_GT(result.compared, 0) << result_line(result);
    found.insert(result.check);
  }
  EXPECT_EQ(found, checks);
}

// A hook that makes one gradient of one check wrong by a factor, on every rank.
VerifyHooks wrong_gradient(const std::string& planted, const std::string& tensor, double factor) {
  VerifyHooks hooks;
  hooks.after_gradients = [=](const std::string& check, ParamStore& params) {
    if (check != planted) return;
    const HostTwin twin(params.context(), params.grad(tensor));
    const TensorView& grad = twin.read().view();
    dispatch_float(grad.dtype, "fault", [&](auto zero) {
      auto* data = grad.as<decltype(zero)>();
      for (std::int64_t i = 0; i < grad.size(); ++i) data[i] *= static_cast<decltype(zero)>(factor);
    });
    twin.write_back();
  };
  return hooks;
}

TEST_F(VerifyCuda, AllButTheDifferencesAgrees) {
  const std::set<std::string> checks = {"accumulation", "resume", "reshape", "kernels", "devices"};
  std::set<std::string> at_several_ranks = checks;
  at_several_ranks.insert("expert_parallel");
  const VerifyReport report = verify_with(
      cuda_config(), std::vector<std::string>(at_several_ranks.begin(), at_several_ranks.end()));
  expect_all_passed(report, mpi().size() > 1 ? at_several_ranks : checks);
  EXPECT_NE(report.kernels.find("CUDA"), std::string::npos) << report.kernels;
}

TEST_F(VerifyCuda, OtherPrecisionsAndLayersAgreeToo) {
  if (mpi().size() > 1) GTEST_SKIP() << "one rank is enough";
  for (const char* change :
       {"runtime { precision: BF16 }", "runtime { precision: FLOAT64 } model { mtp { depth: 1 } }",
        "model { attention { sliding_window: 3 } } train { recompute: LAYER }"}) {
    SCOPED_TRACE(change);
    expect_all_passed(verify_with(cuda_config(change), {"devices"}), {"devices"});
  }
}

TEST_F(VerifyCuda, FindsAGradientThatTheGpuGetsWrong) {
  const std::string tensor = "layers.1.moe.experts.down";
  expect_found(verify_with(cuda_config(), {"devices", "accumulation"},
                           wrong_gradient("devices", tensor, 1.001)),
               "devices", tensor);
  expect_found(verify_with(cuda_config(), {"kernels"}, wrong_gradient("kernels", tensor, 1.5)),
               "kernels", tensor);
}

// Hundreds of steps: a model as small as can be, on one rank.
TEST_F(VerifyCuda, DifferencesFindAWrongGradient) {
  if (mpi().size() > 1) GTEST_SKIP() << "one rank is enough";
  configs::RunConfig run = cuda_config(
      "model { d_model: 4 layers: 1 vocab_size: 7 attention { heads: 1 head_dim: 4 } "
      "moe { experts: 2 d_ff: 2 shared_d_ff: 0 router { top_k { k: 1 } } } } "
      "data { seq_len: 4 } train { global_batch: 2 }");
  run.mutable_model()->mutable_moe()->clear_pattern();
  run.mutable_model()->clear_ffn();
  expect_all_passed(verify_with(run, {"gradients"}), {"gradients"});
  const std::string tensor = "layers.0.attention.q_norm";
  expect_found(verify_with(run, {"gradients"}, wrong_gradient("gradients", tensor, 1.001)),
               "gradients", tensor);
}

TEST(VerifyCudaOptions, TheCheckOfDevicesNeedsOne) {
  try {
    verify_with(verify_config(), {"devices"});
    FAIL() << "there was nothing to compare with";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("device=CUDA"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace witan::test

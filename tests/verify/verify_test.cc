// `witan verify` finds that all is well where it is, and names the check and the tensor of a fault
// that a test plants.
#include "launch/verify/verify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "core/base/error.h"
#include "tests/verify/verify_case.h"

namespace witan::test {
namespace {

const MpiEnvironment& mpi() {
  static const MpiEnvironment environment(nullptr, nullptr);
  return environment;
}

VerifyReport verify_with(const configs::RunConfig& run, const std::vector<std::string>& checks,
                         const VerifyHooks& hooks = {}) {
  return verify(run, {checks, "", hooks}, {}, mpi());
}

void expect_all_passed(const VerifyReport& report) {
  for (const CheckResult& result : report.results) {
    EXPECT_TRUE(result.passed()) << result_line(result);
  }
}

void change_element(const TensorView& tensor, std::int64_t at, double factor) {
  dispatch_float(tensor.dtype, "fault", [&](auto zero) {
    using T = decltype(zero);
    tensor.as<T>()[at] = static_cast<T>(static_cast<double>(tensor.as<T>()[at]) * factor);
  });
}

std::int64_t largest_element(const TensorView& tensor) {
  std::int64_t at = 0;
  dispatch_float(tensor.dtype, "fault", [&](auto zero) {
    const auto* data = tensor.as<decltype(zero)>();
    at = std::max_element(data, data + tensor.size(),
                          [](auto a, auto b) { return std::abs(a) < std::abs(b); }) -
         data;
  });
  return at;
}

TEST(Verify, EverythingAgrees) {
  const VerifyReport report = verify_with(verify_config(), {});
  expect_all_passed(report);
  std::set<std::string> checks;
  for (const CheckResult& result : report.results) {
    checks.insert(result.check);
    EXPECT_EQ(!result.skipped.empty(), mpi().size() == 1 && result.check == "expert_parallel")
        << result_line(result);
    if (result.skipped.empty()) {
      EXPECT_GT(result.compared, 0) << result_line(result);
    }
  }
  EXPECT_EQ(checks, (std::set<std::string>{"gradients", "expert_parallel", "accumulation", "resume",
                                           "reshape", "kernels"}));
}

TEST(Verify, OtherConfigsAgreeToo) {
  const std::vector<std::string> checks = {"gradients", "expert_parallel", "accumulation",
                                           "resume"};
  for (const char* change :
       {"model { moe { expert_kind: RELU } }",
        "model { moe { router { weights: AS_IS score: SOFTMAX top_k { k: 1 } } "
        "balance { switch_aux { scope: MICRO_BATCH } } } } train { recompute: LAYER }",
        "model { moe { balance { switch_aux { scope: SEQUENCE } } } } "
        "train { micro_batch: 1 recompute: MOE_LAYER } optimizer { zero1: false }",
        "train { routing { force_balanced: true } } runtime { precision: BF16 }",
        "model { mtp { depth: 2 } } train { micro_batch: 1 recompute: LAYER }"}) {
    SCOPED_TRACE(change);
    expect_all_passed(verify_with(verify_config(change), checks));
  }
}

TEST(Verify, ADenseModelAgrees) {
  configs::RunConfig run = verify_config();
  run.mutable_model()->clear_moe();
  expect_all_passed(verify_with(run, {}));
}

TEST(Verify, FindsAWrongGradientElement) {
  for (const char* tensor : {"layers.1.moe.router.weight", "layers.1.moe.experts.down",
                             "layers.0.attention.q_norm", "embedding"}) {
    SCOPED_TRACE(tensor);
    VerifyHooks hooks;
    hooks.after_gradients = [&](const std::string&, ParamStore& params) {
      const TensorView grad = params.grad(tensor);
      change_element(grad, largest_element(grad), 1.001);
    };
    expect_found(verify_with(verify_config(), {"gradients"}, hooks), "gradients", tensor);
  }
}

// A term that is missing everywhere but in the largest and the random element.
TEST(Verify, FindsAGradientThatIsWrongWhereNoElementIsTried) {
  VerifyHooks hooks;
  hooks.after_gradients = [&](const std::string&, ParamStore& params) {
    const TensorView grad = params.grad("layers.1.moe.experts.gate_up");
    for (std::int64_t i = 0; i < grad.size(); ++i) {
      if (i % 7 == 0 && i != largest_element(grad)) change_element(grad, i, 0.5);
    }
  };
  expect_found(verify_with(verify_config(), {"gradients"}, hooks), "gradients",
               "layers.1.moe.experts.gate_up");
}

TEST(Verify, FindsARankWhoseGradientsDiffer) {
  if (mpi().size() == 1) return;
  VerifyHooks hooks;
  hooks.after_gradients = [](const std::string& check, ParamStore& params) {
    if (check != "expert_parallel" || mpi().rank() != mpi().size() - 1) return;
    const TensorView grad = params.grad("layers.1.moe.experts.down");
    change_element(grad, largest_element(grad), 1.01);
  };
  expect_found(
      verify_with(verify_config(), {"gradients", "expert_parallel", "accumulation"}, hooks),
      "expert_parallel", "layers.1.moe.experts.down");
}

TEST(Verify, FindsAKernelThatIsWrong) {
  VerifyHooks hooks;
  hooks.after_gradients = [](const std::string& check, ParamStore& params) {
    if (check != "kernels") return;
    const TensorView grad = params.grad("layers.0.ffn.down");
    for (std::int64_t i = 0; i < grad.size(); ++i) change_element(grad, i, -1.0);
  };
  expect_found(verify_with(verify_config(), {"accumulation", "kernels"}, hooks), "kernels",
               "layers.0.ffn.down");
}

TEST(Verify, FindsOneBitAfterLoading) {
  for (const std::string planted : {"resume", "reshape"}) {
    VerifyHooks hooks;
    hooks.after_load = [&](const std::string& check, ParamStore& params) {
      if (check != planted || mpi().rank() != mpi().size() - 1) return;
      *static_cast<std::uint8_t*>(params.value("layers.0.attention.out").data) ^= 1;
    };
    const VerifyReport report = verify_with(verify_config(), {"resume", "reshape"}, hooks);
    EXPECT_FALSE(all_passed(report.results));
    for (const CheckResult& result : report.results) {
      if (result.check != planted) {
        EXPECT_TRUE(result.passed()) << result_line(result);
      }
    }
    if (planted == "reshape") expect_found(report, planted, "layers.0.attention.out");
  }
}

TEST(Verify, FindsAByteOfACheckpoint) {
  VerifyHooks hooks;
  std::string damaged;
  hooks.after_save = [&](const std::string& check, const std::string& folder) {
    if (check != "resume") return;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string name = entry.path().filename();
      if (name.starts_with("state-00001") && name.ends_with(".safetensors")) damaged = name;
    }
    std::fstream file(folder + "/" + damaged, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-5, std::ios::end);
    file.put('\x55');
  };
  const VerifyReport report = verify_with(verify_config(), {"resume", "reshape"}, hooks);
  for (const CheckResult& result : report.results) {
    EXPECT_EQ(result.passed(), result.check == "reshape") << result_line(result);
    if (result.check == "resume" && mpi().rank() == 0) {
      EXPECT_NE(result.failure.find(damaged), std::string::npos) << result.failure;
    }
  }
}

TEST(Verify, LeavesNothingBehind) {
  std::string folder;
  VerifyHooks hooks;
  hooks.after_save = [&](const std::string&, const std::string& checkpoint) {
    folder = std::filesystem::path(checkpoint).parent_path().parent_path().parent_path();
  };
  verify_with(verify_config(), {"resume"}, hooks);
  if (mpi().rank() != 0) return;
  EXPECT_NE(folder.find("witan-verify-"), std::string::npos) << folder;
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST(Verify, NamesTheChecksThereAre) {
  try {
    verify_with(verify_config(), {"gradient"});
    FAIL() << "an unknown check was accepted";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("gradients, expert_parallel"), std::string::npos);
  }
}

TEST(Verify, JsonSaysWhatTheReportSays) {
  VerifyHooks hooks;
  hooks.after_gradients = [](const std::string&, ParamStore& params) {
    change_element(params.grad("embedding"), 0, std::numeric_limits<double>::quiet_NaN());
  };
  const VerifyReport report = verify_with(verify_config(), {"accumulation"}, hooks);
  const auto json = nlohmann::json::parse(report_json(report));
  EXPECT_EQ(json["passed"], false);
  EXPECT_EQ(json["ranks"], mpi().size());
  EXPECT_EQ(json["own_data"], false);
  EXPECT_EQ(json["results"][0]["worst"], "embedding");
  EXPECT_EQ(json["results"][0]["digits"], 0.0);
}

}  // namespace
}  // namespace witan::test

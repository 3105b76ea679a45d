// CUDA against the CPU: the same steps of the same run, at the same layout.
#include <algorithm>
#include <string>
#include <vector>

#include "launch/verify/checks.h"
#include "launch/verify/compare.h"

namespace witan {
namespace {

using configs::RunConfig;
using configs::RuntimeConfig;

constexpr const char* kCheck = "devices";
constexpr int kSteps = 4;
constexpr double kStepsOverGradients = 10.0;  // what a few updates make of a step's rounding

// The same run on the CPU, which records its choices, and on the GPUs, which follow them; in
// float64, where rounding decides nothing, they choose themselves.
class Twins {
 public:
  Twins(const VerifyContext& context, const RunConfig& run, const std::string& name)
      : host_(context.host_mesh(context.expert_parallel())),
        device_(context.mesh(context.expert_parallel())),
        choices_(context.folder + "/" + kCheck + "-" + name + "-" +
                 name_of(run.runtime().precision())),
        on_host_(recording(run), host_, context.host_runtime()),
        context_(context),
        run_(run) {
    on_host_.wake();
  }

  // compare(on_host, on_device), each of which has just been woken and run by `work`.
  template <class Work, class Compare>
  CheckResult compare(const Work& work, const Compare& compare) {
    const auto expected = work(on_host_);
    context_.world.barrier();  // the choices are written
    VerifySession on_device(replaying(run_), device_, context_.runtime);
    on_device.wake();
    const auto found = work(on_device);
    if (context_.hooks.after_gradients) context_.hooks.after_gradients(kCheck, on_device.params());
    Errors errors(on_device.table());
    compare(on_device, found, on_host_, expected, errors);
    errors.agree(context_.world);
    CheckResult result;
    result.check = kCheck;
    errors.report(result);
    return result;
  }

 private:
  RunConfig recording(RunConfig run) const {
    record_routing(run, choices_);
    return run;
  }
  RunConfig replaying(RunConfig run) const {
    if (run.runtime().precision() != RuntimeConfig::FLOAT64) replay_routing(run, choices_);
    return run;
  }

  Mesh host_, device_;
  std::string choices_;
  VerifySession on_host_;
  const VerifyContext& context_;
  RunConfig run_;
};

CheckResult compare_first_gradients(const VerifyContext& context, RuntimeConfig::Precision p) {
  Twins twins(context, gradient_config(context.run, p), "gradients");
  CheckResult result = twins.compare(
      compute_gradients, [](VerifySession& device, const StepMetrics& found, VerifySession& host,
                            const StepMetrics& expected, Errors& errors) {
        compare_gradients(device.params(), host.params(), errors);
        compare_losses(found, expected, errors);
      });
  result.variant = std::string("gradients, ") + name_of(p) + ", CUDA against the CPU";
  result.tolerance = kernel_tolerance(p);
  return result;
}

CheckResult compare_training(const VerifyContext& context, RuntimeConfig::Precision p) {
  RunConfig run = context.run;
  run.mutable_runtime()->set_precision(p);
  Twins twins(context, run, "steps");
  CheckResult result = twins.compare(
      [](VerifySession& session) {
        std::vector<StepMetrics> steps;
        for (int i = 0; i < kSteps; ++i) steps.push_back(session.trainer().step(false));
        return steps;
      },
      [](VerifySession&, const std::vector<StepMetrics>& found, VerifySession&,
         const std::vector<StepMetrics>& expected, Errors& errors) {
        for (std::size_t i = 0; i < found.size(); ++i) compare_steps(found[i], expected[i], errors);
      });
  result.compared = kSteps;
  result.variant = std::to_string(kSteps) + " steps, " + name_of(p) + ", CUDA against the CPU";
  result.tolerance =
      std::min(kernel_tolerance(RuntimeConfig::BF16), kStepsOverGradients * kernel_tolerance(p));
  return result;
}

}  // namespace

std::vector<CheckResult> check_devices(const VerifyContext& context) {
  std::vector<RuntimeConfig::Precision> precisions = {RuntimeConfig::FLOAT64};
  const auto own = context.run.runtime().precision();
  if (own != RuntimeConfig::FLOAT64) precisions.push_back(own);
  std::vector<CheckResult> results;
  for (const auto precision : precisions) {
    results.push_back(compare_first_gradients(context, precision));
    results.push_back(compare_training(context, precision));
  }
  return results;
}

}  // namespace witan

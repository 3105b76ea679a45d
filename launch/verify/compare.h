// How far the tensors of two parameter stores are apart.
#pragma once

#include <string>
#include <vector>

#include "core/model/param_store.h"
#include "launch/metrics/step_metrics.h"
#include "launch/verify/check_result.h"
#include "optim/sharded_adamw.h"
#include "parallel/communicator.h"

namespace witan {

// The error of each tensor of a table and of a few named figures.
class Errors {
 public:
  explicit Errors(const ParamTable& table);

  void tensor(int id, double error,
              std::int64_t compared);  // the larger of this and what was there
  void figure(const std::string& name, double error);
  // The largest over all ranks, which give the same figures in the same order. Collective.
  void agree(Communicator& world);
  // Fills in error, worst and compared.
  void report(CheckResult& result) const;

 private:
  const ParamTable& table_;
  std::vector<double> tensors_;  // by id
  std::vector<std::pair<std::string, double>> figures_;
  std::int64_t compared_ = 0;
};

// This rank's part of a tensor that one rank alone holds whole.
TensorView part_of(const ParamInfo& info, const TensorView& whole, const ParamStore& mine);

// |found - expected| / |expected| in norms, for the gradient of every trained tensor; a gradient
// that is next to nothing counts as a thousandth of the average one. `whole`: one rank alone.
void compare_gradients(const ParamStore& found, const ParamStore& whole, Errors& errors);

// Bits of every value: 0, or the relative difference where a bit differs. `whole`: one rank alone,
// or the same layout as found.
void compare_values(const ParamStore& found, const ParamStore& whole, Errors& errors);

// The same for both moments. Collective over the meshes of both optimizers.
void compare_moments(const ParamStore& found, ShardedAdamW& found_optimizer,
                     const ParamStore& whole, ShardedAdamW& whole_optimizer, Errors& errors);

// Loss and router loss, relative.
void compare_losses(const StepMetrics& found, const StepMetrics& expected, Errors& errors);

// The same bits of every figure of a step, times apart.
void compare_steps(const StepMetrics& found, const StepMetrics& expected, Errors& errors);

}  // namespace witan

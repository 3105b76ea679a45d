// The checks of `witan verify`, one function each. Collective over the world; every rank gets the
// same results.
#pragma once

#include <vector>

#include "launch/verify/check_result.h"
#include "launch/verify/context.h"

namespace witan {

using CheckFunction = std::vector<CheckResult> (*)(const VerifyContext&);

// Gradients by hand against central differences of the losses that the step reports, in float64 on
// one rank, with the routing of the unchanged weights: for each tensor its largest element, a
// random one and a random direction. The tensors are dealt out over the ranks.
std::vector<CheckResult> check_gradients(const VerifyContext& context);

// Losses and gradients at every expert-parallel size of this world against one rank alone, in
// float64, and in float32 with the same routing.
std::vector<CheckResult> check_expert_parallel(const VerifyContext& context);

// Losses and gradients of single sequences, over all ranks and accumulated, against one rank that
// takes the whole batch at once; float64.
std::vector<CheckResult> check_accumulation(const VerifyContext& context);

// Steps, a checkpoint, more steps; against a run that is resumed from the checkpoint: every bit of
// weights, moments, losses.
std::vector<CheckResult> check_resume(const VerifyContext& context);

// A checkpoint saved by all ranks, loaded by one alone and at every expert-parallel size, and one
// saved by one rank and loaded by all: every bit of weights and moments.
std::vector<CheckResult> check_reshape(const VerifyContext& context);

// Gradients of every kernel that this CPU can execute against float64, all with the same routing:
// float32 and bf16 at their own tolerances, float64 at the lower CPU levels. On a GPU: float32 and
// bf16 of the device.
std::vector<CheckResult> check_kernels(const VerifyContext& context);

// A few training steps on the config's GPUs against the same steps on the CPU at the same layout,
// in float64 and in the config's precision, there with the CPU's routing: the first step's
// gradients, and losses, gradient norms and expert counts as they develop.
std::vector<CheckResult> check_devices(const VerifyContext& context);

// How far a gradient in this precision may be from one in float64, relative.
double kernel_tolerance(configs::RuntimeConfig::Precision precision);

struct NamedCheck {
  const char* name;  // for --check
  const char* what;
  CheckFunction run;
  bool needs_cuda = false;  // has nothing to compare without a GPU
};
const std::vector<NamedCheck>& all_checks();

}  // namespace witan

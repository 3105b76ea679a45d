// `witan verify`: whether this build, on this machine, at this number of ranks, computes for the
// user's config what it should.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "configs/schema/run.pb.h"
#include "launch/verify/check_result.h"
#include "launch/verify/reduced_config.h"
#include "launch/verify/session.h"
#include "parallel/mpi_environment.h"

namespace witan {

// Exit code of `witan verify` where something does not agree.
inline constexpr int kDisagreementExitCode = 4;

struct VerifyOptions {
  std::vector<std::string> checks;  // names; empty: all
  std::string folder;               // for scratch files, seen by all ranks; empty: TMPDIR or /tmp
  VerifyHooks hooks;
};

struct VerifyReport {
  std::string config;  // the file
  int ranks = 1, expert_parallel = 1, threads = 1;
  std::string kernels;
  ReducedRun reduced;
  std::vector<CheckResult> results;
  double seconds = 0.0;
};

// What is done, as it happens; called on world rank 0 alone.
struct VerifyProgress {
  std::function<void(const VerifyReport&)> started;  // all but the results is there
  std::function<void(const CheckResult&)> result;
};

// Collective; every rank gets the same report. UserError on an unknown check.
VerifyReport verify(const configs::RunConfig& run, const VerifyOptions& options,
                    const VerifyProgress& progress, const MpiEnvironment& mpi);

// Keys: docs/verify.md.
std::string report_json(const VerifyReport& report);

}  // namespace witan

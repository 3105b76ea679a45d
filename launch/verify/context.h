// What every check of `witan verify` is given.
#pragma once

#include <string>

#include "launch/runtime.h"
#include "launch/verify/check_result.h"
#include "launch/verify/session.h"
#include "parallel/mpi_environment.h"

namespace witan {

struct VerifyContext {
  configs::RunConfig run;  // reduced
  const MpiEnvironment& mpi;
  Communicator& world;
  Runtime runtime;     // threads and kernels of the config
  std::string folder;  // for files, seen by all ranks; removed at the end
  VerifyHooks hooks;

  int ranks() const { return world.size(); }
  // EP that the config asks for, or the default.
  int expert_parallel() const { return resolve_expert_parallel(run, ranks()); }
  Mesh mesh(int expert_parallel_size) const {
    return {mpi, expert_parallel_size, run.parallel().watchdog_seconds()};
  }
  // A file of this rank alone.
  std::string own_file(const std::string& name) const {
    return folder + "/" + name + "-rank-" + std::to_string(world.rank());
  }
};

inline const char* name_of(configs::RuntimeConfig::Precision precision) {
  switch (precision) {
    case configs::RuntimeConfig::FLOAT64: return "float64";
    case configs::RuntimeConfig::BF16: return "bf16";
    default: return "float32";
  }
}

}  // namespace witan

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
  Runtime runtime;     // device, threads and kernels of the config
  std::string folder;  // for files, seen by all ranks; removed at the end
  VerifyHooks hooks;

  int ranks() const { return world.size(); }
  // EP that the config asks for, or the default.
  int expert_parallel() const { return resolve_expert_parallel(run, ranks()); }
  Mesh mesh(int expert_parallel_size) const { return on_device(host_mesh(expert_parallel_size)); }
  // One rank alone.
  Mesh alone() const { return on_device(Mesh::self()); }
  // The same ranks, and the same kernels of the CPU, with every tensor in host memory.
  Mesh host_mesh(int expert_parallel_size) const {
    return {mpi, expert_parallel_size, run.parallel().watchdog_seconds()};
  }
  Runtime host_runtime() const {
    Runtime host = runtime;
    host.ctx = {};
    host.stream.reset();
    return host;
  }
  bool on_cuda() const { return runtime.ctx.device.is_cuda(); }
  // A file of this rank alone.
  std::string own_file(const std::string& name) const {
    return folder + "/" + name + "-rank-" + std::to_string(world.rank());
  }

 private:
  Mesh on_device(Mesh mesh) const {
    mesh.use_device(runtime.ctx, device_transport(run), run.parallel().watchdog_seconds());
    return mesh;
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

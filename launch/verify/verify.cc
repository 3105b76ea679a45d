#include "launch/verify/verify.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/base/error.h"
#include "launch/verify/checks.h"
#include "launch/verify/synthetic_data.h"

namespace witan {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// A folder that all ranks see; rank 0 removes it.
class ScratchFolder {
 public:
  ScratchFolder(const std::string& where, const MpiEnvironment& mpi, Communicator& world)
      : owner_(world.rank() == 0) {
    if (where.empty() && mpi.nodes() > 1) {
      throw_user_error("--folder: is needed with ranks on ", mpi.nodes(),
                       " nodes: name a folder that all of them see");
    }
    if (owner_) {
      path_ = (where.empty() ? fs::temp_directory_path() : fs::path(where)) / "witan-verify-XXXXXX";
      if (::mkdtemp(path_.data()) == nullptr) {
        throw_user_error("--folder: cannot make a folder in ", fs::path(path_).parent_path());
      }
    }
    world.broadcast_bytes(path_, 0);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    if (owner_) fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  bool owner_;
  std::string path_;
};

std::vector<NamedCheck> chosen(const std::vector<std::string>& names, bool on_cuda) {
  std::vector<NamedCheck> checks;
  if (names.empty()) {
    std::copy_if(all_checks().begin(), all_checks().end(), std::back_inserter(checks),
                 [&](const NamedCheck& check) { return on_cuda || !check.needs_cuda; });
  }
  for (const std::string& name : names) {
    const auto found = std::find_if(all_checks().begin(), all_checks().end(),
                                    [&](const NamedCheck& check) { return name == check.name; });
    if (found == all_checks().end()) {
      std::string known;
      for (const NamedCheck& check : all_checks()) {
        known += (known.empty() ? "" : ", ") + std::string(check.name);
      }
      throw_user_error("--check: \"", name, "\" is unknown; the checks are ", known);
    }
    if (found->needs_cuda && !on_cuda) {
      throw_user_error("--check: \"", name,
                       "\" compares GPUs with the CPU; device is CPU, add --set ", "device=CUDA");
    }
    checks.push_back(*found);
  }
  return checks;
}

// More ranks than cores, each with several threads, would mostly wait for each other.
configs::RuntimeConfig runtime_config(const configs::RunConfig& run, const MpiEnvironment& mpi) {
  configs::RuntimeConfig config = run.runtime();
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  if (!config.has_threads() && mpi.local_size() > cores) config.set_threads(1);
  return config;
}

ReducedRun reduce_for(const configs::RunConfig& run, const std::string& folder,
                      Communicator& world) {
  std::string there = world.rank() == 0 && data_is_there(run.data()) ? "1" : "0";
  world.broadcast_bytes(there, 0);
  ReducedRun reduced = reduce_config(run, world.size(), there == "1", folder);
  if (!reduced.own_data && world.rank() == 0) {
    write_synthetic_data(reduced.run.data(), reduced.run.model().vocab_size(),
                         reduced.run.train().seed());
  }
  world.barrier();
  return reduced;
}

Json result_json(const CheckResult& r) {
  Json json = {{"check", r.check}, {"variant", r.variant}, {"passed", r.passed()}};
  if (!r.note.empty()) json["note"] = r.note;
  if (!r.skipped.empty()) {
    json["skipped"] = r.skipped;
  } else if (!r.failure.empty()) {
    json["failure"] = r.failure;
  } else {
    // JSON has no infinity: what is not a number at all agrees to no digit.
    json["error"] = std::min(r.error, 1e300);
    json["digits"] = r.digits();
    json["tolerance"] = r.tolerance;
    json["worst"] = r.worst;
    json["compared"] = r.compared;
  }
  json["seconds"] = r.seconds;
  return json;
}

}  // namespace

const std::vector<NamedCheck>& all_checks() {
  static const std::vector<NamedCheck> checks = {
      {"gradients", "gradients by hand against central differences, float64", check_gradients},
      {"expert_parallel", "every expert-parallel size against one rank", check_expert_parallel},
      {"accumulation", "micro-batches and ranks against one batch", check_accumulation},
      {"resume", "a resumed run against one that goes on", check_resume},
      {"reshape", "a checkpoint loaded at other layouts", check_reshape},
      {"kernels", "float32, bf16 and every CPU level against float64", check_kernels},
      {"devices", "steps on GPUs against the CPU", check_devices, true}};
  return checks;
}

VerifyReport verify(const configs::RunConfig& run, const VerifyOptions& options,
                    const VerifyProgress& progress, const MpiEnvironment& mpi) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<NamedCheck> checks = chosen(options.checks, run.device() == configs::CUDA);
  const auto world = mpi.world(run.parallel().watchdog_seconds());
  const ScratchFolder folder(options.folder, mpi, *world);
  VerifyReport report;
  report.reduced = reduce_for(run, folder.path(), *world);
  const VerifyContext context{report.reduced.run,
                              mpi,
                              *world,
                              start_runtime(runtime_config(run, mpi), mpi, run.device()),
                              folder.path(),
                              options.hooks};
  report.ranks = context.ranks();
  report.expert_parallel = context.expert_parallel();
  report.threads = context.runtime.threads;
  report.kernels = context.runtime.kernels;
  const bool leader = world->rank() == 0;
  if (leader && progress.started) progress.started(report);
  for (const NamedCheck& check : checks) {
    const auto check_start = std::chrono::steady_clock::now();
    std::vector<CheckResult> results = check.run(context);
    for (CheckResult& result : results) {
      result.seconds = seconds_since(check_start) / static_cast<double>(results.size());
      if (leader && progress.result) progress.result(result);
      report.results.push_back(std::move(result));
    }
  }
  world->barrier();  // nobody reads the folder any more
  report.seconds = seconds_since(start);
  return report;
}

std::string report_json(const VerifyReport& report) {
  Json json = {{"config", report.config},
               {"passed", all_passed(report.results)},
               {"ranks", report.ranks},
               {"expert_parallel", report.expert_parallel},
               {"threads", report.threads},
               {"kernels", report.kernels},
               {"own_data", report.reduced.own_data},
               {"seconds", report.seconds},
               {"reduced", Json::array()},
               {"results", Json::array()}};
  for (const Reduction& change : report.reduced.changes) {
    json["reduced"].push_back({{"field", change.field}, {"from", change.from}, {"to", change.to}});
  }
  for (const CheckResult& result : report.results) json["results"].push_back(result_json(result));
  return json.dump(2) + "\n";
}

}  // namespace witan

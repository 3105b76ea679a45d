#include "launch/bench/step_run.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <vector>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "launch/data/indexed_dataset_writer.h"

namespace witan {
namespace {

constexpr std::int64_t kSteps = 4;  // that the data lasts for, before it begins anew

// Writes the data and returns a config that reads it.
configs::RunConfig with_random_data(configs::RunConfig run, const std::string& folder) {
  const std::string prefix = folder + "/random";
  const Random random(1, "bench", "tokens");
  const std::int64_t vocab = run.model().vocab_size();
  const std::int64_t count = kSteps * run.train().global_batch() * run.data().seq_len() + 1;
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<std::int32_t>(random.below(i, static_cast<std::uint64_t>(vocab)));
  }
  IndexedDatasetWriter writer(prefix, vocab);
  writer.append(tokens);
  writer.end_document();
  writer.finish();

  configs::DataConfig& data = *run.mutable_data();
  data.clear_train();
  data.clear_validation();
  data.set_validation_share(0.0);
  std::vector<std::string> names = tag_names(run.model());  // tokens of every tag
  if (names.empty()) names.emplace_back("random");
  for (const std::string& name : names) {
    configs::Dataset& dataset = *data.add_train();
    dataset.set_name(name);
    dataset.set_path(prefix);
  }
  return run;
}

Engine::Options options_of(const configs::RunConfig& run) {
  const auto tags = static_cast<std::int64_t>(tag_names(run.model()).size());
  return {true, std::max<std::int64_t>(tags, 1), static_cast<Recompute>(run.train().recompute()),
          exchange_options(run)};
}

}  // namespace

TemporaryFolder::TemporaryFolder()
    : path_((std::filesystem::temp_directory_path() / "witan-bench-XXXXXX").string()) {
  if (mkdtemp(path_.data()) == nullptr) {
    throw_user_error("cannot make a temporary folder ", path_, ": ", std::strerror(errno));
  }
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

StepRun::StepRun(const configs::RunConfig& run, const Mesh& mesh, const Runtime& runtime)
    : run_(with_random_data(run, folder_.path())),
      stream_(run_.data(), run_.model().vocab_size(), run_.train().seed(), tag_names(run_.model())),
      engine_(run_.model(), mesh, runtime, options_of(run_)),
      trainer_(run_, engine_, stream_, -1) {
  engine_.params().initialize(run_.train().seed());
}

void StepRun::step() { trainer_.step(false); }

void StepRun::force_load(const ForcedLoad::Load& load) {
  const Mesh& mesh = engine_.mesh();
  const configs::TrainConfig& train = run_.train();
  const std::int64_t sequences =
      train.has_micro_batch() ? train.micro_batch() : train.global_batch() / mesh.world_size();
  trainer_.set_routing(std::make_unique<ForcedLoad>(load, sequences * run_.data().seq_len(),
                                                    static_cast<std::uint64_t>(mesh.world_rank())));
}

double StepRun::flop() const {
  return training_flops_per_token(run_.model(), run_.data().seq_len()) *
         static_cast<double>(tokens());
}

double StepRun::bytes() {
  std::map<std::string, double> parts;
  for (const MemoryPart& part : engine_.memory_parts()) {
    parts[part.name] = static_cast<double>(part.bytes);
  }
  return 3.0 * parts.at("weights") + 3.0 * parts.at("gradients") +
         2.0 * static_cast<double>(trainer_.optimizer().state_bytes()) +
         2.0 * parts.at("activations");
}

}  // namespace witan

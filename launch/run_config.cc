#include "launch/run_config.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "core/base/cuda/stream_cuda.h"
#include "core/base/error.h"
#include "core/model/check_model.h"
#include "core/model/expert_mask.h"
#include "core/model/param_table.h"
#include "launch/data/run_tokenizer.h"
#include "launch/data/sample_stream.h"
#include "parallel/mesh.h"

namespace witan {
namespace {

using configs::RunConfig;

void check_data(const RunConfig& run, const configs::Fail& fail) {
  if (!run.has_data()) return;
  if (run.data().seq_len() > run.model().max_seq_len()) {
    fail("data.seq_len",
         detail::concat("found ", run.data().seq_len(),
                        "; at most model.max_seq_len = ", run.model().max_seq_len()));
  }
  try {
    const auto tokenizer = tokenizer_of(run.data());
    const bool documents = run.data().reset_at_document() || run.data().mask_document_start();
    if (documents && end_of_document_of(run.data(), tokenizer.get()) < 0) {
      fail("data.end_of_document",
           "is missing; reset_at_document and mask_document_start need it with a tokenizer that "
           "does not say, as \"none\"");
    }
    if (tokenizer != nullptr && run.model().vocab_size() < tokenizer->vocab_size()) {
      fail("model.vocab_size",
           detail::concat("found ", run.model().vocab_size(), "; the tokenizer ", tokenizer->name(),
                          " needs at least ", tokenizer->vocab_size()));
    }
  } catch (const UserError& error) {
    fail("data.tokenizer", error.what());
  }
}

// Every dataset has a tag that the model knows.
void check_tags(const RunConfig& run, const configs::Fail& fail) {
  const std::vector<std::string> known = tag_names(run.model());
  if (known.empty()) return;
  std::string list;
  for (const std::string& name : known) list += (list.empty() ? "" : ", ") + name;
  const auto check = [&](const configs::Dataset& dataset, const std::string& field) {
    if (std::ranges::find(known, tag_of(dataset)) != known.end()) return;
    fail(field,
         detail::concat(dataset.has_tag() ? "found \"" : "is the dataset's name \"",
                        tag_of(dataset), "\"; model.moe.allowed_experts has the tags ", list));
  };
  for (int i = 0; i < run.data().train_size(); ++i) {
    check(run.data().train(i), detail::concat("data.train[", i, "].tag"));
  }
  for (int i = 0; i < run.data().validation_size(); ++i) {
    check(run.data().validation(i), detail::concat("data.validation[", i, "].tag"));
  }
}

void check_mtp(const RunConfig& run, const configs::Fail& fail) {
  if (!run.model().has_mtp() || run.data().seq_len() > run.model().mtp().depth()) return;
  fail("data.seq_len", detail::concat("found ", run.data().seq_len(), "; model.mtp.depth = ",
                                      run.model().mtp().depth(), " needs longer sequences"));
}

void check_device(const RunConfig& run, const configs::Fail& fail) {
  if (run.device() == configs::CUDA && !cuda::built_with_cuda()) {
    fail("device",
         "found CUDA, but this witan was built without it; configure with -DWITAN_CUDA=ON, or use "
         "CPU");
  }
  if (run.device() == configs::CPU && run.runtime().device_index_size() > 0) {
    fail("runtime.device_index", "is for device: CUDA; this run's device is CPU");
  }
  if (run.runtime().cuda_graphs() && run.device() == configs::CPU) {
    fail("runtime.cuda_graphs", "is for device: CUDA; this run's device is CPU");
  }
  if (run.runtime().cuda_graphs() && run.model().attention().has_latent()) {
    fail("runtime.cuda_graphs", "latent attention is not captured; leave it out for this model");
  }
}

void check_routing(const RunConfig& run, const configs::Fail& fail) {
  const configs::RoutingConfig& routing = run.train().routing();
  const int ways = (routing.force_balanced() ? 1 : 0) + (routing.has_replay() ? 1 : 0);
  if (ways > 1) {
    fail("train.routing.replay", "excludes force_balanced; keep one of the two");
  }
  if (routing.force_balanced() && run.model().moe().has_allowed_experts()) {
    fail("train.routing.force_balanced",
         "deals out every expert, also those that model.moe.allowed_experts keeps from a token; "
         "remove one of the two");
  }
  if ((ways > 0 || routing.has_record()) && !run.model().has_moe()) {
    fail("train.routing", "is set, but the model has no MoE layer");
  }
}

std::string read_text(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return {};
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

std::vector<configs::Check> planning_checks(int ranks) {
  return {[](const RunConfig& run, const configs::Fail& fail) { check_model(run.model(), fail); },
          [ranks](const RunConfig& run, const configs::Fail& fail) {
            check_parallel(run, ranks, fail);
          },
          check_data,
          check_mtp,
          check_tags,
          check_routing};
}

std::vector<configs::Check> run_config_checks(int ranks) {
  std::vector<configs::Check> checks = planning_checks(ranks);
  checks.emplace_back(check_device);
  return checks;
}

std::vector<configs::Check> inference_checks(int ranks) {
  return {[](const RunConfig& run, const configs::Fail& fail) { check_model(run.model(), fail); },
          [ranks](const RunConfig& run, const configs::Fail& fail) {
            RunConfig without_batch = run;
            without_batch.mutable_train()->set_global_batch(ranks);
            without_batch.mutable_train()->clear_micro_batch();
            check_parallel(without_batch, ranks, fail);
          },
          check_data,
          check_mtp,
          check_tags,
          check_device};
}

std::vector<configs::Check> verify_checks() {
  std::vector<configs::Check> checks = model_checks();
  checks.emplace_back(check_device);
  checks.emplace_back(check_device_transport);
  return checks;
}

std::vector<configs::Check> model_checks() {
  return {[](const RunConfig& run, const configs::Fail& fail) { check_model(run.model(), fail); },
          check_data, check_mtp, check_tags, check_routing};
}

RunConfigResult read_run_config(const std::string& file, const std::vector<std::string>& overrides,
                                Communicator& world) {
  return read_run_config(file, overrides, world, run_config_checks(world.size()));
}

RunConfigResult read_run_config(const std::string& file, const std::vector<std::string>& overrides,
                                Communicator& world, const std::vector<configs::Check>& checks) {
  // "1" + text, or "0" where the file cannot be read; the loader then says why on rank 0.
  std::string message;
  if (world.rank() == 0) {
    message = std::ifstream(file).good() ? "1" + read_text(file) : "0";
  }
  world.broadcast_bytes(message, 0);
  RunConfigResult result;
  if (message.at(0) == '0') {
    if (world.rank() == 0) result.config = configs::load_file(file, overrides, checks);
  } else {
    result.config = configs::load(message.substr(1), file, overrides, checks);
    result.ok = result.config.errors.empty();
  }
  if (world.rank() == 0) {
    for (const configs::ConfigError& error : result.config.errors) {
      std::fprintf(stderr, "%s\n", error.to_string().c_str());
    }
  }
  return result;
}

std::vector<std::string> run_config_warnings(const RunConfig& run) {
  std::vector<std::string> warnings;
  const configs::RouterConfig& router = run.model().moe().router();
  if (run.model().has_moe() && ModelDims(run.model()).choices == 1 &&
      router.weights() == configs::RouterConfig::RENORMALIZED) {
    warnings.emplace_back(
        "model.moe.router: with one expert per token a RENORMALIZED weight is always 1, so the "
        "router gets no "
        "gradient from the loss; AS_IS is the sensible choice");
  }
  if (run.model().has_ffn() && ModelDims(run.model()).moe_layers() == run.model().layers()) {
    warnings.emplace_back("model.ffn is not used: every layer is an MoE layer");
  }
  const std::vector<std::int32_t> unused = experts_without_tag(run.model().moe());
  if (!unused.empty()) {
    warnings.push_back(detail::concat("model.moe.allowed_experts: no tag may use expert ",
                                      unused.front(), unused.size() > 1 ? " and others" : ""));
  }
  if (run.model().has_moe() && run.model().moe().balance_size() == 0) {
    warnings.emplace_back("model.moe.balance is empty: nothing balances the experts' load");
  }
  return warnings;
}

}  // namespace witan

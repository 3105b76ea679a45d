// witan eval: the loss of a model on every position of validation data.
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "launch/checkpoint/output_file.h"
#include "launch/commands/commands.h"
#include "launch/data/run_tokenizer.h"
#include "launch/data/sample_stream.h"
#include "launch/evaluator.h"
#include "launch/metrics/load_figures.h"
#include "launch/model_folder.h"
#include "launch/mpi_session.h"

namespace witan {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFooter = R"(
Every dataset is cut into non-overlapping windows of --seq-len tokens; every token but the first
of each dataset is predicted once, from those before it in its window. Any number of ranks gives
the same figures, up to rounding.

Examples:
  witan eval runs/quickstart
  mpirun -n 2 witan eval runs/quickstart/checkpoints/step-00000780 --json eval.json
  witan eval runs/quickstart --data books=data/books --data news=data/news --seq-len 128
  witan eval mixtral-tiny/ --data text=data/ids

Keys of --json: checkpoint (the folder), seq_len, ranks, expert_parallel, validation [one per
  dataset: dataset, tokens (predicted), loss (nats per token), perplexity, bytes and nats_per_byte
  (where the tokenizer is known), mtp_losses (with model.mtp, by depth), seconds, load [one per
  MoE layer: layer, max_vio, cv, entropy, dead, rank_max_vio, counts]]

Exit codes: 0 done, 1 failed, 2 a mistake in the command line, data or checkpoint.)";

struct Arguments {
  std::string model, json_file, tag;
  std::vector<std::string> overrides, data;
  std::int64_t seq_len = 0;
  std::int64_t batch = 16;
  std::int64_t windows = 0;
};

// --data NAME=PREFIX takes the place of the run's own validation data.
void replace_data(const std::vector<std::string>& arguments, const std::string& tag,
                  configs::DataConfig& data) {
  if (arguments.empty()) return;
  data.clear_train();
  data.clear_validation();
  for (const std::string& argument : arguments) {
    const std::size_t equals = argument.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == argument.size()) {
      throw_user_error("--data: expected NAME=PREFIX, found \"", argument, "\"");
    }
    configs::Dataset& dataset = *data.add_validation();
    dataset.set_name(argument.substr(0, equals));
    dataset.set_path(argument.substr(equals + 1));
    if (!tag.empty()) dataset.set_tag(tag);
  }
}

configs::DataConfig validation_data(const Arguments& arguments, const configs::RunConfig& run) {
  configs::DataConfig data = run.data();
  replace_data(arguments.data, arguments.tag, data);
  if (arguments.seq_len > 0) data.set_seq_len(arguments.seq_len);
  if (data.seq_len() > run.model().max_seq_len()) {
    throw_user_error("--seq-len: found ", data.seq_len(),
                     "; at most model.max_seq_len = ", run.model().max_seq_len());
  }
  // The training data is of no interest where validation data is named.
  if (data.validation_size() > 0) data.clear_train();
  const bool nothing_held_out = data.train_size() == 0 || data.validation_share() == 0.0;
  if (data.validation_size() == 0 && nothing_held_out) {
    throw_user_error(arguments.model,
                     ": its run holds out no validation data; name some: --data NAME=PREFIX");
  }
  return data;
}

Json load_json(const LayerMetrics& layer, int expert_parallel) {
  const LoadFigures figures = load_figures(layer.computing_counts(), expert_parallel);
  return {{"layer", layer.layer},  {"max_vio", figures.max_vio},
          {"cv", figures.cv},      {"entropy", figures.entropy},
          {"dead", figures.dead},  {"rank_max_vio", figures.rank_max_vio},
          {"counts", layer.counts}};
}

Json result_json(const EvalResult& result, int expert_parallel) {
  Json json = {{"dataset", result.name},
               {"tokens", result.tokens},
               {"loss", result.loss},
               {"perplexity", std::exp(result.loss)}};
  if (result.bytes > 0) {
    json["bytes"] = result.bytes;
    json["nats_per_byte"] = result.nats_per_byte;
  }
  if (!result.mtp_losses.empty()) json["mtp_losses"] = result.mtp_losses;
  json["seconds"] = result.seconds;
  json["load"] = Json::array();
  for (const LayerMetrics& layer : result.layers)
    json["load"].push_back(load_json(layer, expert_parallel));
  return json;
}

void print_result(const EvalResult& result, int expert_parallel) {
  std::printf("%s: %.4f nats per token", result.name.c_str(), result.loss);
  if (result.bytes > 0) std::printf(", %.4f nats per byte", result.nats_per_byte);
  std::printf(", perplexity %.3f  (%lld tokens, %.1f s)\n", std::exp(result.loss),
              static_cast<long long>(result.tokens), result.seconds);
  for (std::size_t k = 0; k < result.mtp_losses.size(); ++k) {
    std::printf("  %zu further on: %.4f nats per token (multi-token prediction)\n", k + 1,
                result.mtp_losses[k]);
  }
  for (const LayerMetrics& layer : result.layers) {
    const LoadFigures figures = load_figures(layer.computing_counts(), expert_parallel);
    std::printf("  layer %-3d MaxVio %.3f, entropy %.3f, dead experts %lld of %zu\n", layer.layer,
                figures.max_vio, figures.entropy, static_cast<long long>(figures.dead),
                layer.computing_counts().size());
  }
}

int run_eval(const Arguments& arguments) {
  const MpiEnvironment& mpi = mpi_session();
  const ModelFolder source = find_model(arguments.model, arguments.overrides, *mpi.world(0.0));
  if (!source.ok) return 2;
  const configs::RunConfig& run = source.config.run;
  const configs::DataConfig data = validation_data(arguments, run);
  const std::unique_ptr<Tokenizer> tokenizer = tokenizer_of(data);
  check_tokenizer_of_datasets(data, tokenizer.get());
  const SampleStream stream(data, run.model().vocab_size(), run.train().seed(),
                            tag_names(run.model()));

  LoadedModel model(source, mpi);
  const std::vector<EvalResult> results =
      evaluate(model.engine(), stream, data, arguments.batch, arguments.windows, tokenizer.get(),
               end_of_document_of(data, tokenizer.get()));
  if (!model.leader()) return 0;

  const int expert_parallel = model.mesh().expert_parallel();
  std::printf("%s, windows of %lld tokens\n", source.folder.c_str(),
              static_cast<long long>(data.seq_len()));
  Json json = {{"checkpoint", source.folder},
               {"seq_len", data.seq_len()},
               {"ranks", model.mesh().world_size()},
               {"expert_parallel", expert_parallel},
               {"validation", Json::array()}};
  for (const EvalResult& result : results) {
    print_result(result, expert_parallel);
    json["validation"].push_back(result_json(result, expert_parallel));
  }
  if (!arguments.json_file.empty()) write_text_file(arguments.json_file, json.dump(2) + "\n");
  return 0;
}

}  // namespace

void register_eval(CLI::App& app, RunCommand& run) {
  CLI::App* command = app.add_subcommand("eval", "Evaluate a model on validation data");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("checkpoint", arguments->model, kModelFolderHelp)->required();
  CLI::Option* data =
      command
          ->add_option("--data", arguments->data,
                       "Evaluate on the indexed dataset PREFIX.bin, PREFIX.idx under this name, "
                       "instead of the run's "
                       "validation data (repeatable)")
          ->type_name("NAME=PREFIX")
          ->allow_extra_args(false);
  command
      ->add_option("--tag", arguments->tag,
                   "Tag of the tokens of --data, where the model allows experts by tag "
                   "(model.moe.allowed_experts); absent: the dataset's name")
      ->type_name("NAME")
      ->needs(data);
  command
      ->add_option("--seq-len", arguments->seq_len,
                   "Tokens per window; absent: data.seq_len of the run")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{16777216}));
  command->add_option("--batch", arguments->batch, "Windows per rank and forward pass")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1048576}));
  command
      ->add_option("--windows", arguments->windows,
                   "The first N windows of each dataset only; absent: all")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--set", arguments->overrides,
                   "Override a field of the run's config: path=value (repeatable)")
      ->allow_extra_args(false);
  command->add_option("--json", arguments->json_file, "Write the figures to this file")
      ->type_name("FILE");
  command->footer(kFooter);
  command->callback([arguments, &run] { run = [arguments] { return run_eval(*arguments); }; });
}

}  // namespace witan

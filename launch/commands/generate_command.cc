// witan generate: text that a model continues.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/model/check_model.h"
#include "launch/checkpoint/output_file.h"
#include "launch/commands/commands.h"
#include "launch/data/run_tokenizer.h"
#include "launch/generator.h"
#include "launch/model_folder.h"
#include "launch/mpi_session.h"

namespace witan {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFooter = R"(
A sample ends at the end-of-document token, or after --max-tokens. An empty prompt begins behind
an end-of-document token. A prompt of text gets what the tokenizer begins a text with in front. Random numbers are addressed by (seed, sample, position): the same text
at any number of ranks, up to rounding, and sample i does not depend on --samples. What is longer
than model.max_seq_len goes on behind its newest half. Modules of multi-token prediction
(model.mtp) take no part.

Examples:
  witan generate runs/quickstart --prompt "A hacker is"
  mpirun -n 2 witan generate runs/quickstart --prompt-file start.txt --samples 4 --top-p 0.95
  witan generate runs/quickstart --prompt UNIX --temperature 0.8 --seed 7 --json sample.json
  witan generate mixtral-tiny/ --prompt-ids 1,17,42 --greedy

Keys of --json: checkpoint (the folder), prompt, prompt_ids, greedy, temperature, top_k, top_p,
  seed, ranks, expert_parallel, samples [text, ids, ended (by end-of-document)], tokens (new
  ones), seconds, tokens_per_second. Bytes that are not UTF-8 are replaced in prompt and text; ids
  are exact. Without a tokenizer there is no prompt and text.

Exit codes: 0 done, 1 failed, 2 a mistake in the command line or checkpoint.)";

struct Arguments {
  std::string model, prompt, prompt_file, json_file, tag;
  std::vector<std::int64_t> prompt_ids;
  std::vector<std::string> overrides;
  GenerateOptions options;
};

std::vector<std::int32_t> encode_prompt(const Arguments& arguments, const Tokenizer* tokenizer) {
  const std::string text =
      arguments.prompt_file.empty() ? arguments.prompt : read_text_file(arguments.prompt_file);
  std::vector<std::int32_t> ids(arguments.prompt_ids.begin(), arguments.prompt_ids.end());
  if (text.empty()) return ids;
  if (tokenizer == nullptr) {
    throw_user_error(
        arguments.model,
        ": the tokenizer of this model is not known (data.tokenizer is \"none\"); give "
        "token ids with --prompt-ids, or name it: --set data.tokenizer=byte or =PATH");
  }
  ids.assign(tokenizer->text_begin().begin(), tokenizer->text_begin().end());
  tokenizer->encode(text, ids);
  return ids;
}

void check_prompt(const std::vector<std::int32_t>& ids, const configs::RunConfig& run,
                  std::int32_t end_of_document) {
  const std::int64_t vocab = run.model().vocab_size();
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= vocab) {
      throw_user_error("the prompt holds token ", id, "; the model has tokens 0 to ", vocab - 1);
    }
  }
  const std::int64_t context = run.model().max_seq_len();
  if (static_cast<std::int64_t>(ids.size()) > context) {
    throw_user_error("the prompt has ", ids.size(),
                     " tokens; at most model.max_seq_len = ", context);
  }
  const bool restarts = run.data().reset_at_document() && end_of_document >= 0;
  for (std::size_t i = 1; restarts && i < ids.size(); ++i) {
    if (ids[i - 1] == end_of_document) {
      throw_user_error(
          "the prompt goes on behind an end-of-document token, and the model was trained with "
          "data.reset_at_document: give only what follows that token");
    }
  }
}

std::vector<std::int32_t> prompt_tokens(const Arguments& arguments, const configs::RunConfig& run,
                                        const Tokenizer* tokenizer) {
  const std::int32_t end_of_document = end_of_document_of(run.data(), tokenizer);
  std::vector<std::int32_t> ids = encode_prompt(arguments, tokenizer);
  if (ids.empty() && tokenizer != nullptr) {
    ids.assign(tokenizer->text_begin().begin(), tokenizer->text_begin().end());
  }
  if (ids.empty()) {
    if (end_of_document < 0) {
      throw_user_error(
          "there is no prompt, and this model has no end-of-document token to begin with; "
          "give one with --prompt, --prompt-file or --prompt-ids");
    }
    ids.push_back(end_of_document);
  }
  check_prompt(ids, run, end_of_document);
  return ids;
}

std::string text_of(const std::vector<std::int32_t>& ids, const Tokenizer* tokenizer) {
  if (tokenizer != nullptr) return tokenizer->decode(ids);
  std::string text;
  for (const std::int32_t id : ids) text += (text.empty() ? "" : " ") + std::to_string(id);
  return text;
}

void print_samples(const std::string& prompt, const std::vector<GeneratedSample>& samples,
                   const Tokenizer* tokenizer) {
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (samples.size() > 1) std::printf("%s--- sample %zu\n", i == 0 ? "" : "\n", i + 1);
    const std::string text = text_of(samples[i].tokens, tokenizer);
    std::fwrite(prompt.data(), 1, prompt.size(), stdout);
    if (tokenizer == nullptr) std::fputc(' ', stdout);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fputc('\n', stdout);
  }
  std::fflush(stdout);
}

Json samples_json(const std::vector<GeneratedSample>& samples, const Tokenizer* tokenizer) {
  Json json = Json::array();
  for (const GeneratedSample& sample : samples) {
    Json entry;
    if (tokenizer != nullptr) entry["text"] = text_of(sample.tokens, tokenizer);
    entry["ids"] = sample.tokens;
    entry["ended"] = sample.ended;
    json.push_back(std::move(entry));
  }
  return json;
}

// Rank 0 reads and checks.
std::optional<std::vector<std::int32_t>> shared_prompt(const Arguments& arguments,
                                                       const configs::RunConfig& run,
                                                       const Tokenizer* tokenizer,
                                                       Communicator& world) {
  const auto bytes = from_leader(world, [&] {
    const std::vector<std::int32_t> ids = prompt_tokens(arguments, run, tokenizer);
    return std::string(reinterpret_cast<const char*>(ids.data()),
                       ids.size() * sizeof(std::int32_t));
  });
  if (!bytes) return std::nullopt;
  std::vector<std::int32_t> ids(bytes->size() / sizeof(std::int32_t));
  std::memcpy(ids.data(), bytes->data(), bytes->size());
  return ids;
}

int run_generate(const Arguments& arguments) {
  const MpiEnvironment& mpi = mpi_session();
  const auto world = mpi.world(0.0);
  ModelFolder source = find_model(arguments.model, arguments.overrides, *world);
  if (!source.ok) return 2;
  const configs::RunConfig& run = source.config.run;
  if (!selects_causally(run.model().moe().router())) {
    if (world->rank() == 0) {
      std::fprintf(stderr,
                   "witan: %s: its router chooses by looking at later tokens, so there is no "
                   "honest way to generate with it\n",
                   source.folder.c_str());
    }
    return 2;
  }
  const std::unique_ptr<Tokenizer> tokenizer = tokenizer_of(run.data());
  const auto prompt = shared_prompt(arguments, run, tokenizer.get(), *world);
  if (!prompt) return 2;
  const auto tag = find_tag(run.model(), arguments.tag, *world);
  if (!tag) return 2;

  GenerateOptions options = arguments.options;
  options.tag = *tag;
  options.context = run.model().max_seq_len();
  options.end_of_document = end_of_document_of(run.data(), tokenizer.get());
  // Nothing is dropped: what a token gets must not depend on what else is being generated.
  configs::ModelConfig& config = *source.config.run.mutable_model();
  if (config.has_moe()) config.mutable_moe()->clear_capacity();
  LoadedModel model(source, mpi);
  const auto start = std::chrono::steady_clock::now();
  const std::vector<GeneratedSample> samples = generate(model.engine(), *prompt, options);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!model.leader()) return 0;

  std::size_t tokens = 0;
  for (const GeneratedSample& sample : samples) tokens += sample.tokens.size();
  const std::string text = text_of(*prompt, tokenizer.get());
  print_samples(text, samples, tokenizer.get());
  std::fprintf(stderr, "%zu tokens in %.2f s\n", tokens, seconds);
  if (source.config.run.model().has_mtp()) {
    std::fprintf(stderr, "the modules of multi-token prediction (model.mtp) take no part\n");
  }
  if (arguments.json_file.empty()) return 0;
  Json json;
  json["checkpoint"] = source.folder;
  if (tokenizer != nullptr) json["prompt"] = text;
  json["prompt_ids"] = *prompt;
  json["greedy"] = options.sampling.greedy;
  json["temperature"] = options.sampling.temperature;
  json["top_k"] = options.sampling.top_k;
  json["top_p"] = options.sampling.top_p;
  json["seed"] = options.sampling.seed;
  json["ranks"] = model.mesh().world_size();
  json["expert_parallel"] = model.mesh().expert_parallel();
  json["samples"] = samples_json(samples, tokenizer.get());
  json["tokens"] = tokens;
  json["seconds"] = seconds;
  json["tokens_per_second"] = static_cast<double>(tokens) / seconds;
  write_text_file(arguments.json_file,
                  json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  return 0;
}

void add_prompt_options(CLI::App& command, Arguments& arguments) {
  auto* text = command.add_option("--prompt", arguments.prompt, "Text to continue");
  auto* file =
      command.add_option("--prompt-file", arguments.prompt_file, "Continue what is in this file")
          ->type_name("FILE");
  auto* ids = command.add_option("--prompt-ids", arguments.prompt_ids, "Continue these token ids")
                  ->delimiter(',')
                  ->type_name("ID,ID,...");
  text->excludes(file)->excludes(ids);
  file->excludes(ids);
}

void add_sampling_options(CLI::App& command, GenerateOptions& options) {
  SamplingOptions& sampling = options.sampling;
  command.add_option("--max-tokens,--tokens", options.max_tokens, "New tokens per sample")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{100000000}));
  command.add_option("--samples", options.samples, "Texts; the ranks share them")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1000000}));
  auto* greedy = command.add_flag("--greedy", sampling.greedy, "Always the most likely token");
  const auto excluding = [&](CLI::Option* option) {
    option->capture_default_str()->excludes(greedy);
  };
  excluding(command
                .add_option("--temperature", sampling.temperature,
                            "Divides the logits; below 1: more of the likely")
                ->check(CLI::Range(1e-6, 1e6)));
  excluding(command.add_option("--top-k", sampling.top_k, "Only the K most likely tokens; 0: all")
                ->check(CLI::NonNegativeNumber));
  excluding(command
                .add_option("--top-p", sampling.top_p,
                            "Only the most likely tokens that make up this probability")
                ->check(CLI::Range(1e-6, 1.0)));
  excluding(command.add_option("--seed", sampling.seed, "Seed of the random numbers"));
}

}  // namespace

void register_generate(CLI::App& app, RunCommand& run) {
  CLI::App* command = app.add_subcommand("generate", "Let a model continue a text");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("checkpoint", arguments->model, kModelFolderHelp)->required();
  add_prompt_options(*command, *arguments);
  add_sampling_options(*command, arguments->options);
  command->add_option("--tag", arguments->tag, kTagHelp)->type_name("NAME");
  command
      ->add_option("--set", arguments->overrides,
                   "Override a field of the run's config: path=value (repeatable)")
      ->allow_extra_args(false);
  command->add_option("--json", arguments->json_file, "Write samples and figures to this file")
      ->type_name("FILE");
  command->footer(kFooter);
  command->callback([arguments, &run] { run = [arguments] { return run_generate(*arguments); }; });
}

}  // namespace witan

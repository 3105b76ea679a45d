// witan grow: larger models out of trained ones.
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "launch/checkpoint/output_file.h"
#include "launch/commands/commands.h"
#include "launch/grow/add_experts.h"
#include "launch/grow/upcycle.h"
#include "launch/model_folder.h"

namespace witan {
namespace {

using configs::RouterConfig;

constexpr const char* kFooter = R"(
The result is a checkpoint of weights, which eval, generate, logits, inspect and convert read. To
train it, give a config its model (`model` in the folder's run.textproto; balancing and capacity are
yours to add) and --set train.init_from=FOLDER; any number of ranks, any expert-parallel size.

Keys of --json: input, output, parameters_before, parameters, active_parameters, experts, top_k,
moe_layers.

Exit codes: 0 done, 1 failure of the machine, 2 a mistake in options or folders, or a model that
cannot be grown so.)";

constexpr const char* kUpcycleFooter = R"(
Each dense feed-forward part becomes E experts that are copies of it, of which a token takes k, with
weights that sum to 1: without --noise the model computes what the dense one computes, rounding
aside. With --granularity G every copy is cut into G experts of width d_ff / G that share its row of
the router, the down projection times G: E G experts, of which a token takes k G.

Examples:
  witan grow upcycle runs/dense checkpoints/sparse --experts 8 --top-k 2
  witan grow upcycle llama/ checkpoints/fine --experts 8 --top-k 2 --granularity 4 --noise 0.02

Keys of --json and exit codes: witan grow --help)";

constexpr const char* kExpertsFooter = R"(
Every MoE layer gets experts for a new domain, behind the old ones: they begin as copies of one, and
so do their rows of the router. Domains are token tags: model.moe.allowed_experts says which experts
the tokens of a tag may use. Tokens of the old tags keep theirs, and what the model computes for
them stays bit for bit; tokens of the new tag may use all experts, or those of --allow.

Old experts are frozen in training by
  --set 'optimizer.rule=[{ pattern: "layers.*.moe.experts.*" experts: "0-7" factor: 0 }]'

Examples:
  witan grow experts runs/news checkpoints/news-law --add 4 --copy-of 0 --noise 0.02 --tag law
  witan grow experts mixtral/ checkpoints/law --add 4 --copy-of 3 --old-tag web --tag law --allow 8-11

Keys of --json and exit codes: witan grow --help)";

void report(const std::string& input, const std::string& output, const std::string& json_file,
            const GrowReport& grown) {
  std::printf(
      "%s: %lld parameters (%lld before), %lld active per token; %lld MoE layers of %lld experts, "
      "top-%lld\n",
      output.c_str(), static_cast<long long>(grown.parameters),
      static_cast<long long>(grown.parameters_before),
      static_cast<long long>(grown.active_parameters), static_cast<long long>(grown.moe_layers),
      static_cast<long long>(grown.experts), static_cast<long long>(grown.top_k));
  if (json_file.empty()) return;
  const nlohmann::ordered_json json = {{"input", input},
                                       {"output", output},
                                       {"parameters_before", grown.parameters_before},
                                       {"parameters", grown.parameters},
                                       {"active_parameters", grown.active_parameters},
                                       {"experts", grown.experts},
                                       {"top_k", grown.top_k},
                                       {"moe_layers", grown.moe_layers}};
  write_text_file(json_file, json.dump(2) + "\n");
}

struct Folders {
  std::string input, output, json_file;
};

void add_folders(CLI::App& command, Folders& folders) {
  command.add_option("input", folders.input, kModelFolderHelp)->required()->type_name("FOLDER");
  command.add_option("output", folders.output, "Folder to make; must not exist")
      ->required()
      ->type_name("FOLDER");
  command.add_option("--json", folders.json_file, "Write the figures to this file")
      ->type_name("FILE");
}

void add_noise_options(CLI::App& command, double& noise, std::uint64_t& seed) {
  command
      .add_option("--noise", noise,
                  "Standard deviation of noise on the new experts' weights, relative to the root "
                  "mean square of the tensor")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--seed", seed, "Of everything random: the noise, a new router's weights")
      ->capture_default_str();
}

struct UpcycleLine : Folders {
  UpcycleOptions options;
  std::int64_t every = 1, first = 0;
};

void add_router_options(CLI::App& command, UpcycleOptions& options) {
  command.add_option("--experts", options.experts, "Copies of each dense feed-forward part")
      ->required()
      ->check(CLI::PositiveNumber);
  command.add_option("--top-k", options.top_k, "Copies that a token takes")
      ->required()
      ->check(CLI::PositiveNumber);
  command.add_option("--granularity", options.granularity, "Experts that a copy is cut into")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      .add_option("--score", options.score, "Score of an expert: softmax, sigmoid, sqrt_softplus")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, RouterConfig::Score>{
              {"softmax", RouterConfig::SOFTMAX},
              {"sigmoid", RouterConfig::SIGMOID},
              {"sqrt_softplus", RouterConfig::SQRT_SOFTPLUS}},
          CLI::ignore_case))
      ->default_str("softmax");
  command
      .add_option("--weights", options.weights,
                  "Weights of the chosen: renormalized, softmax_of_scores")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, RouterConfig::Weights>{
              {"renormalized", RouterConfig::RENORMALIZED},
              {"softmax_of_scores", RouterConfig::SOFTMAX_OF_SCORES},
              {"as_is", RouterConfig::AS_IS},
              {"uniform", RouterConfig::UNIFORM}},
          CLI::ignore_case))
      ->default_str("renormalized");
}

void register_upcycle(CLI::App& grow, RunCommand& run) {
  const auto line = std::make_shared<UpcycleLine>();
  CLI::App* command = grow.add_subcommand(
      "upcycle", "A dense model into a Mixture of Experts that computes the same");
  add_folders(*command, *line);
  add_router_options(*command, line->options);
  command
      ->add_option("--router-init-std", line->options.router_init_std,
                   "Standard deviation of the router's weights (default: the model's init_std)")
      ->check(CLI::PositiveNumber);
  add_noise_options(*command, line->options.noise, line->options.seed);
  command->add_option("--every", line->every, "Every n-th layer becomes an MoE layer ...")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--first", line->first, "... from this one on, counted from 0")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->footer(kUpcycleFooter);
  command->callback([line, &run] {
    run = [line] {
      if (line->every != 1) line->options.pattern.set_every(line->every);
      if (line->first != 0) line->options.pattern.set_first(line->first);
      report(line->input, line->output, line->json_file,
             upcycle(line->input, line->output, line->options));
      return 0;
    };
  });
}

struct ExpertsLine : Folders {
  AddExpertsOptions options;
};

void register_experts(CLI::App& grow, RunCommand& run) {
  const auto line = std::make_shared<ExpertsLine>();
  AddExpertsOptions& options = line->options;
  CLI::App* command = grow.add_subcommand(
      "experts", "More experts for a new domain; nothing changes for the old ones");
  add_folders(*command, *line);
  command->add_option("--add", options.add, "Experts more in every MoE layer")
      ->required()
      ->check(CLI::PositiveNumber);
  command->add_option("--copy-of", options.copy_of, "The expert that the new ones begin as")
      ->required()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--tag", options.tag, "Tag of the new domain")->required();
  command->add_option("--allow", options.allow,
                      "Experts that the new tag may use, like 0-3,8 (default: all)");
  command
      ->add_option("--old-tag", options.old_tags,
                   "Tag of an old domain (repeatable; default: those of the run's data)")
      ->allow_extra_args(false);
  add_noise_options(*command, options.noise, options.seed);
  command->footer(kExpertsFooter);
  command->callback([line, &run] {
    run = [line] {
      report(line->input, line->output, line->json_file,
             add_experts(line->input, line->output, line->options));
      return 0;
    };
  });
}

}  // namespace

void register_grow(CLI::App& app, RunCommand& run) {
  CLI::App* command = app.add_subcommand("grow", "Make a larger model out of a trained one");
  command->require_subcommand(1);
  command->footer(kFooter);
  register_upcycle(*command, run);
  register_experts(*command, run);
}

}  // namespace witan

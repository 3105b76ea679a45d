// witan logits: logits, loss and gradients of given tokens, as files.
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "launch/checkpoint/output_file.h"
#include "launch/commands/commands.h"
#include "launch/data/run_tokenizer.h"
#include "launch/logits_run.h"
#include "launch/model_folder.h"
#include "launch/mpi_session.h"

namespace witan {
namespace {

constexpr const char* kFooter = R"(
How a model is compared with another implementation. All files are safetensors.
  --tokens     input_ids [B, S], I64 or I32; B need not divide by the ranks
  --text       instead of a file: one sequence, with what the tokenizer begins a text with
  --out        logits [B, S, V] and loss [1], F32
  --gradients  one F32 tensor per trained tensor, with the name and layout it has in the model's
               folder: the gradient of the loss, not clipped; zeros for experts without tokens,
               tied tensors once, no buffers
Positions are 0 .. S - 1, nothing is padded. loss: mean over all B (S - 1) next tokens, without
balancing losses. With model.mtp the gradients are those of the loss that is trained, which the
losses of multi-token prediction are added to.

Examples:
  witan logits mixtral-tiny/ --tokens tokens.safetensors --out logits.safetensors
  witan logits runs/quickstart --text "A hacker is" --out logits.safetensors
  mpirun -n 2 witan logits runs/quickstart --tokens t.safetensors --out o.safetensors \
    --gradients g.safetensors

Keys of --json: checkpoint (the folder), loss, sequences, seq_len, vocab_size, ranks,
  expert_parallel

Exit codes: 0 done, 1 failed, 2 a mistake in the command line, tokens or checkpoint.)";

struct Arguments {
  std::string model, json_file, tag;
  std::string text;
  std::vector<std::string> overrides;
  LogitsFiles files;
};

// One sequence, as `prepare` and `generate` make ids of a text.
InputIds ids_of_text(const Arguments& arguments, const configs::RunConfig& run) {
  const std::unique_ptr<Tokenizer> tokenizer = tokenizer_of(run.data());
  if (tokenizer == nullptr) {
    throw_user_error(
        arguments.model,
        ": the tokenizer of this model is not known (data.tokenizer is \"none\"); give "
        "token ids with --tokens, or name it: --set data.tokenizer=byte or =PATH");
  }
  InputIds input;
  input.sequences = 1;
  input.ids.assign(tokenizer->text_begin().begin(), tokenizer->text_begin().end());
  tokenizer->encode(arguments.text, input.ids);
  input.seq_len = static_cast<std::int64_t>(input.ids.size());
  if (input.seq_len < 2) {
    throw_user_error("--text: \"", arguments.text, "\" is ", input.seq_len,
                     " tokens; at least 2 are needed, the second being the first one's target");
  }
  for (const std::int32_t id : input.ids) {
    if (id < run.model().vocab_size()) continue;
    throw_user_error("--text holds token ", id, "; the model has tokens 0 to ",
                     run.model().vocab_size() - 1);
  }
  return input;
}

// Rank 0 reads and checks.
std::optional<InputIds> shared_input(const Arguments& arguments, const configs::RunConfig& run,
                                     Communicator& world) {
  const auto bytes = from_leader(world, [&] {
    const configs::ModelConfig& model = run.model();
    const bool file = !arguments.files.tokens.empty();
    if (file != arguments.text.empty()) {
      throw_user_error("logits: give either --tokens FILE or --text TEXT");
    }
    const InputIds input = file ? read_input_ids(arguments.files.tokens, model.vocab_size())
                                : ids_of_text(arguments, run);
    if (input.seq_len > model.max_seq_len()) {
      throw_user_error(file ? arguments.files.tokens : "--text", ": sequences of ", input.seq_len,
                       " tokens; at most model.max_seq_len = ", model.max_seq_len());
    }
    std::string message(sizeof(std::int64_t), '\0');
    std::memcpy(message.data(), &input.seq_len, sizeof(std::int64_t));
    return message.append(reinterpret_cast<const char*>(input.ids.data()),
                          input.ids.size() * sizeof(std::int32_t));
  });
  if (!bytes) return std::nullopt;
  InputIds input;
  std::memcpy(&input.seq_len, bytes->data(), sizeof(std::int64_t));
  input.ids.resize((bytes->size() - sizeof(std::int64_t)) / sizeof(std::int32_t));
  std::memcpy(input.ids.data(), bytes->data() + sizeof(std::int64_t),
              input.ids.size() * sizeof(std::int32_t));
  input.sequences = static_cast<std::int64_t>(input.ids.size()) / input.seq_len;
  return input;
}

int run_logits(const Arguments& arguments) {
  const MpiEnvironment& mpi = mpi_session();
  const auto world = mpi.world(0.0);
  ModelFolder source = find_model(arguments.model, arguments.overrides, *world);
  if (!source.ok) return 2;
  configs::ModelConfig& config = *source.config.run.mutable_model();
  auto input = shared_input(arguments, source.config.run, *world);
  if (!input) return 2;
  const auto tag = find_tag(config, arguments.tag, *world);
  if (!tag) return 2;
  input->tag = *tag;
  remove_balancing_losses(config);
  LoadedModel model(source, mpi, !arguments.files.gradients.empty());
  const double loss = compute_logits(model.engine(), *input, arguments.files);
  if (!model.leader()) return 0;

  std::printf("loss %.6f nats per token, %lld sequences of %lld tokens\n", loss,
              static_cast<long long>(input->sequences), static_cast<long long>(input->seq_len));
  if (arguments.json_file.empty()) return 0;
  const nlohmann::ordered_json json = {{"checkpoint", source.folder},
                                       {"loss", loss},
                                       {"sequences", input->sequences},
                                       {"seq_len", input->seq_len},
                                       {"vocab_size", config.vocab_size()},
                                       {"ranks", model.mesh().world_size()},
                                       {"expert_parallel", model.mesh().expert_parallel()}};
  write_text_file(arguments.json_file, json.dump(2) + "\n");
  return 0;
}

}  // namespace

void register_logits(CLI::App& app, RunCommand& run) {
  CLI::App* command = app.add_subcommand(
      "logits", "Write logits, loss and gradients of given tokens, to compare implementations");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("checkpoint", arguments->model, kModelFolderHelp)->required();
  command->add_option("--tokens", arguments->files.tokens, "Read input_ids [B, S] from this file")
      ->type_name("FILE");
  command
      ->add_option("--text", arguments->text,
                   "Instead: one sequence, this text by the model's tokenizer")
      ->type_name("TEXT");
  command->add_option("--out", arguments->files.logits, "Write logits and loss to this file")
      ->required()
      ->type_name("FILE");
  command->add_option("--gradients", arguments->files.gradients, "Write the gradients to this file")
      ->type_name("FILE");
  command->add_option("--tag", arguments->tag, kTagHelp)->type_name("NAME");
  command
      ->add_option("--set", arguments->overrides,
                   "Override a field of the model's config: path=value (repeatable)")
      ->allow_extra_args(false);
  command->add_option("--json", arguments->json_file, "Write the figures to this file")
      ->type_name("FILE");
  command->footer(kFooter);
  command->callback([arguments, &run] { run = [arguments] { return run_logits(*arguments); }; });
}

}  // namespace witan

#include "launch/commands/convert_command.h"

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "launch/checkpoint/convert.h"
#include "launch/checkpoint/output_file.h"

namespace witan {
namespace {

constexpr const char* kFooter = R"(
Examples:
  witan convert mixtral-tiny/ checkpoints/mixtral-tiny
  witan convert runs/quickstart/checkpoints/step-00001000 for-transformers --dtype bf16
  witan convert llama/ checkpoints/llama --dtype f32 --max-shard-size 2GB
  witan convert DeepSeek-V3/ checkpoints/deepseek-v3 --mtp keep
  witan convert checkpoints/mistral mistral-out --architecture mistral

A folder with witan.json (a checkpoint) becomes a Hugging Face folder that `transformers` opens; any
other folder must hold config.json of an architecture below and safetensors (f64, f32, f16, bf16, or
fp8 e4m3 with a weight_scale_inv for each block of 128 x 128, which becomes bf16), and becomes a
checkpoint with weights only (for train.init_from, eval, generate, logits). Tensors go through one
by one: memory does not grow with the model. Architectures: llama, mistral, mixtral, qwen2_moe,
olmoe, deepseek_v2, deepseek_v3.

Keys of --json: input, output, direction ("to_checkpoint" or "to_hugging_face"), tensors,
parameters, files, bytes (of weights).

Exit codes: 0 done, 1 failure of the machine, 2 a mistake in options or folders, or a model that
cannot be converted.)";

struct CommandLine {
  std::string input, output, json_file;
  std::string dtype = "same";
  std::string mtp = "refuse";
  ConvertOptions options;
};

int run_convert(const CommandLine& line) {
  ConvertOptions options = line.options;
  if (line.dtype == "f32") options.dtype = StDType::kF32;
  if (line.dtype == "bf16") options.dtype = StDType::kBF16;
  if (line.mtp == "skip") options.mtp = MtpTensors::kSkip;
  if (line.mtp == "keep") options.mtp = MtpTensors::kKeep;
  const ConvertReport report = convert_folder(line.input, line.output, options);
  std::printf("%s: a %s with %lld parameters in %lld tensors, %lld files, %.1f MB\n",
              line.output.c_str(), report.to_checkpoint ? "checkpoint" : "Hugging Face folder",
              static_cast<long long>(report.parameters), static_cast<long long>(report.tensors),
              static_cast<long long>(report.files), static_cast<double>(report.bytes) / 1e6);
  if (!line.json_file.empty()) {
    const nlohmann::ordered_json json = {
        {"input", line.input},
        {"output", line.output},
        {"direction", report.to_checkpoint ? "to_checkpoint" : "to_hugging_face"},
        {"tensors", report.tensors},
        {"parameters", report.parameters},
        {"files", report.files},
        {"bytes", report.bytes},
    };
    write_text_file(line.json_file, json.dump(2) + "\n");
  }
  return 0;
}

}  // namespace

void register_convert(CLI::App& app, std::function<int()>& run) {
  const auto line = std::make_shared<CommandLine>();
  CLI::App* command =
      app.add_subcommand("convert", "Turn a Hugging Face folder into a checkpoint, or back");
  command->add_option("input", line->input, "Checkpoint or Hugging Face folder")
      ->required()
      ->type_name("FOLDER");
  command->add_option("output", line->output, "Folder to make; must not exist")
      ->required()
      ->type_name("FOLDER");
  command
      ->add_option("--dtype", line->dtype, "Of the weights written: same (as they are), f32, bf16")
      ->check(CLI::IsMember({"same", "f32", "bf16"}))
      ->capture_default_str();
  command
      ->add_option("--max-shard-size", line->options.max_shard_bytes,
                   "Largest file of weights: bytes, or with KB, MB, GB (default: 5GB)")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::PositiveNumber)
      ->type_name("SIZE");
  command
      ->add_option("--architecture", line->options.architecture,
                   "Of the Hugging Face folder, where several compute the same as the model "
                   "(default: the first that fits)")
      ->type_name("MODEL_TYPE");
  command
      ->add_option("--mtp", line->mtp,
                   "Modules of multi-token prediction, layers behind the last of a Hugging Face "
                   "folder: refuse, skip, keep (DeepSeek-V3)")
      ->check(CLI::IsMember({"refuse", "skip", "keep"}))
      ->capture_default_str();
  command->add_option("--json", line->json_file, "Write the figures to this file")
      ->type_name("FILE");
  command->footer(kFooter);
  command->callback([line, &run] { run = [line] { return run_convert(*line); }; });
}

}  // namespace witan

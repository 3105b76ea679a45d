#include "launch/commands/prepare_command.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "core/base/error.h"
#include "launch/data/prepare.h"

namespace witan {
namespace {

constexpr const char* kFooter = R"(
Examples:
  witan prepare book.txt -o data/book
  witan prepare corpus/ more.jsonl.gz -o data/corpus --json-field content
  witan prepare corpus/ -o data/gpt2 --tokenizer gpt2/tokenizer.json
  witan prepare stories.txt.zst -o data/stories --document-separator "<|endoftext|>"

Files named .jsonl or .ndjson hold a document a line; every other file is text. Each may be
compressed (.gz, .zst). Folders are read with everything below them, sorted by name, without
hidden files. The result is Megatron-LM's indexed dataset, PREFIX.bin and PREFIX.idx; a run reads
it as data.train { name: "NAME" path: "PREFIX" }.

--tokenizer: byte (256 bytes and end-of-document), or the path of
  tokenizer.json   byte-level BPE as GPT-2, Llama 3, Qwen, OLMoE and DeepSeek have it
  vocab.json       the same in GPT-2's files, with merges.txt beside it
  *.model          SentencePiece; runs spm_encode
or of a folder that holds one of them. Its files are kept in PREFIX.tokenizer/, where a run finds
them; what is not supported in them is named and refused.

Keys of --json: output, files, documents, empty_documents, tokens, text_bytes, tokenizer,
vocab_size, bytes_per_token, threads, seconds, megabytes_per_second (of text).

Exit codes: 0 done, 1 failure of the machine (disk full), 2 a mistake in options or data.)";

// A bar that stays on its line on a terminal; a line every few seconds in a log file.
class ProgressLine {
 public:
  ProgressLine() : terminal_(::isatty(STDERR_FILENO) == 1) {}
  ~ProgressLine() {
    if (drawn_) std::fputc('\n', stderr);
  }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void show(const PrepareProgress& progress) {
    constexpr double kLogSeconds = 5;
    if (!terminal_ && progress.seconds - last_ < kLogSeconds) return;
    last_ = progress.seconds;
    const double share = progress.total_bytes > 0 ? static_cast<double>(progress.input_bytes) /
                                                        static_cast<double>(progress.total_bytes)
                                                  : 1;
    const double rate =
        static_cast<double>(progress.input_bytes) / 1e6 / std::max(progress.seconds, 1e-9);
    const double left = share > 0 ? progress.seconds * (1 - share) / share : 0;
    const int filled = std::clamp(static_cast<int>(share * kWidth), 0, kWidth);
    const std::string bar = std::string(static_cast<std::size_t>(filled), '#') +
                            std::string(static_cast<std::size_t>(kWidth - filled), '.');
    std::fprintf(stderr, "%sprepare [%s] %5.1f%%  %.1f M tokens  %.0f MB/s read  %.0f s left%s",
                 terminal_ ? "\r" : "", bar.c_str(), share * 100,
                 static_cast<double>(progress.tokens) / 1e6, rate, left,
                 terminal_ ? "\033[K" : "\n");
    std::fflush(stderr);
    drawn_ = terminal_;
  }

 private:
  static constexpr int kWidth = 30;
  bool terminal_;
  bool drawn_ = false;
  double last_ = 0;
};

struct CommandLine {
  PrepareOptions options;
  std::string json_field, separator, json_file;
};

void write_json(const CommandLine& line, const PrepareReport& report) {
  const nlohmann::ordered_json json = {
      {"output", line.options.output},
      {"files", report.files},
      {"documents", report.documents},
      {"empty_documents", report.empty_documents},
      {"tokens", report.tokens},
      {"text_bytes", report.text_bytes},
      {"tokenizer", report.tokenizer},
      {"vocab_size", report.vocab_size},
      {"bytes_per_token", report.bytes_per_token},
      {"threads", report.threads},
      {"seconds", report.seconds},
      {"megabytes_per_second", report.megabytes_per_second()},
  };
  std::ofstream file(line.json_file);
  file << json.dump(2) << '\n';
  file.close();
  if (!file) throw_user_error("--json ", line.json_file, ": cannot be written");
}

int run_prepare(const CommandLine& line) {
  PrepareOptions options = line.options;
  PrepareReport report;
  {
    ProgressLine progress;
    options.progress = [&](const PrepareProgress& now) { progress.show(now); };
    report = prepare(options);
  }
  std::printf("%s.bin, %s.idx: %lld documents, %lld tokens of %d bytes, from %lld bytes of text\n",
              options.output.c_str(), options.output.c_str(),
              static_cast<long long>(report.documents), static_cast<long long>(report.tokens),
              report.bytes_per_token, static_cast<long long>(report.text_bytes));
  if (report.empty_documents > 0)
    std::printf("%lld empty documents were left out\n",
                static_cast<long long>(report.empty_documents));
  std::printf("%lld files, %.1f s, %.0f MB/s of text, %d threads\n",
              static_cast<long long>(report.files), report.seconds, report.megabytes_per_second(),
              report.threads);
  if (!line.json_file.empty()) write_json(line, report);
  return 0;
}

}  // namespace

void register_prepare(CLI::App& app, std::function<int()>& run) {
  const auto line = std::make_shared<CommandLine>();
  CLI::App* command =
      app.add_subcommand("prepare", "Turn text or JSONL files into an indexed dataset of tokens");
  command->add_option("inputs", line->options.inputs, "Files and folders to read")
      ->required()
      ->type_name("PATH");
  command->add_option("-o,--output", line->options.output, "Where PREFIX.bin and PREFIX.idx go")
      ->required()
      ->type_name("PREFIX");
  command
      ->add_option("--tokenizer", line->options.tokenizer,
                   "byte, or the path of a tokenizer's file or folder")
      ->capture_default_str();
  const CLI::Option* json_field = command->add_option(
      "--json-field", line->json_field, "JSONL: the field that holds the text (default: text)");
  const CLI::Option* separator = command->add_option(
      "--document-separator", line->separator,
      "Text: a line equal to this divides documents (\"\": an empty line); without it a file is a "
      "document");
  command->add_option("--threads", line->options.threads, "Threads; 0: as many as there are cores")
      ->capture_default_str();
  command->add_flag("--overwrite", line->options.overwrite,
                    "Replace a dataset that is already there");
  command->add_option("--json", line->json_file, "Write the figures to this file")
      ->type_name("FILE");
  command->footer(kFooter);
  command->callback([line, json_field, separator, &run] {
    if (json_field->count() > 0) line->options.json_field = line->json_field;
    if (separator->count() > 0) line->options.document_separator = line->separator;
    run = [line] { return run_prepare(*line); };
  });
}

}  // namespace witan

#include "launch/data/prepare.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <system_error>
#include <thread>

#include "core/base/error.h"
#include "launch/data/block_reader.h"
#include "launch/data/document_encoder.h"
#include "launch/data/indexed_dataset_writer.h"
#include "launch/data/input_files.h"
#include "launch/data/ordered_queue.h"
#include "launch/data/run_tokenizer.h"
#include "launch/data/tokenizer.h"

namespace witan {
namespace {

// What a thread does at a time: one block of a plain file, or a whole compressed file (which can
// only be read from its start).
struct Unit {
  const InputFile* file;
  std::optional<std::int64_t> block;
  bool ends_file;
};

std::vector<Unit> make_units(const std::vector<InputFile>& files, std::int64_t block_bytes) {
  std::vector<Unit> units;
  for (const InputFile& file : files) {
    if (file.compression != Compression::kNone) {
      units.push_back({&file, {}, true});
      continue;
    }
    const std::int64_t blocks =
        std::max<std::int64_t>((file.bytes + block_bytes - 1) / block_bytes, 1);
    for (std::int64_t b = 0; b < blocks; ++b) units.push_back({&file, b, b + 1 == blocks});
  }
  return units;
}

using Queue = OrderedQueue<EncodedBlock>;

// The threads that encode; joined when it goes, also when the writer throws.
class Encoders {
 public:
  Encoders(const std::vector<Unit>& units, const DocumentEncoder& encoder, std::int64_t block_bytes,
           int threads, Queue& queue)
      : units_(units), encoder_(encoder), block_bytes_(block_bytes), queue_(queue) {
    for (int t = 0; t < threads; ++t) threads_.emplace_back([this] { work(); });
  }
  ~Encoders() {
    queue_.stop();
    for (std::thread& thread : threads_) thread.join();
  }
  Encoders(const Encoders&) = delete;
  Encoders& operator=(const Encoders&) = delete;

 private:
  void work() {
    while (const auto unit = queue_.claim()) {
      try {
        encode(*unit);
        queue_.close(*unit);
      } catch (...) {
        queue_.close(*unit, std::current_exception());
      }
    }
  }

  void encode(std::size_t index) {
    const Unit& unit = units_[index];
    BlockReader reader(
        *unit.file, block_bytes_,
        unit.file->jsonl ? BlockReader::Cut::kLinesOnly : BlockReader::Cut::kLongLinesToo,
        unit.block);
    TextBlock block;
    std::int64_t reported = 0;
    while (reader.next(block)) {
      EncodedBlock encoded = encoder_.encode(*unit.file, block);
      if (!unit.block) encoded.input_bytes = reader.consumed() - reported;
      reported += encoded.input_bytes;
      if (!queue_.push(index, std::move(encoded))) return;
    }
    EncodedBlock last;
    last.ends_file = unit.ends_file;
    last.input_bytes = unit.block
                           ? std::min(block_bytes_, unit.file->bytes - *unit.block * block_bytes_)
                           : unit.file->bytes - reported;
    queue_.push(index, std::move(last));
  }

  const std::vector<Unit>& units_;
  const DocumentEncoder& encoder_;
  std::int64_t block_bytes_;
  Queue& queue_;
  std::vector<std::thread> threads_;
};

// Writes encoded blocks in order, an end-of-document behind each document and what the tokenizer
// begins a text with in front.
class CorpusWriter {
 public:
  CorpusWriter(const std::string& prefix, const Tokenizer& tokenizer)
      : tokenizer_(tokenizer),
        writer_(prefix, tokenizer.vocab_size()),
        end_of_document_(tokenizer.end_of_document()) {}

  void add(const EncodedBlock& block) {
    open_text_ += block.head;
    const bool nothing_else =
        block.tokens.empty() && block.document_ends.empty() && block.tail.empty();
    if (!nothing_else || block.ends_file) encode_open_text();
    open_text_ += block.tail;
    std::size_t begin = 0;
    for (const std::size_t end : block.document_ends) {
      append(std::span(block.tokens).subspan(begin, end - begin));
      end_document();
      begin = end;
    }
    append(std::span(block.tokens).subspan(begin));
    text_bytes_ += block.text_bytes;
    if (!block.ends_file) return;
    // What follows the last separator, or a file that had nothing at all.
    if (writer_.document_tokens() > 0 || !file_had_documents_) end_document();
    file_had_documents_ = false;
  }

  std::int64_t tokens() const { return writer_.tokens(); }
  void finish() { writer_.finish(); }
  void report(PrepareReport& report) const {
    report.documents = writer_.documents();
    report.empty_documents = empty_documents_;
    report.tokens = writer_.tokens();
    report.text_bytes = text_bytes_;
    report.bytes_per_token = writer_.bytes_per_token();
  }

 private:
  // A document's text, what the tokenizer begins one with in front.
  void append(std::span<const std::int32_t> ids) {
    if (ids.empty()) return;
    if (writer_.document_tokens() == 0) writer_.append(tokenizer_.text_begin());
    writer_.append(ids);
  }

  // What was kept as text at the joints of blocks.
  void encode_open_text() {
    if (open_text_.empty()) return;
    std::vector<std::int32_t> ids;
    tokenizer_.encode(open_text_, ids);
    append(ids);
    open_text_.clear();
  }

  void end_document() {
    file_had_documents_ = true;
    if (writer_.document_tokens() == 0) {
      ++empty_documents_;
      return;
    }
    writer_.append(std::span(&end_of_document_, 1));
    writer_.end_document();
  }

  const Tokenizer& tokenizer_;
  IndexedDatasetWriter writer_;
  std::string open_text_;
  std::int32_t end_of_document_;
  std::int64_t empty_documents_ = 0, text_bytes_ = 0;
  bool file_had_documents_ = false;
};

void check_output(const PrepareOptions& options) {
  const std::filesystem::path output = options.output;
  std::error_code unknown;  // then writing will fail and say why
  if (options.output.empty() || !output.has_filename() ||
      std::filesystem::is_directory(output, unknown))
    throw_user_error("output \"", options.output,
                     "\": expected the path of a dataset (a prefix to which .bin and .idx are "
                     "added), not a folder");
  if (output.extension() == ".bin" || output.extension() == ".idx")
    throw_user_error("output \"", options.output, "\": expected a prefix without .bin or .idx");
  for (const char* suffix : {".bin", ".idx"})
    if (!options.overwrite && std::filesystem::exists(options.output + suffix, unknown))
      throw_user_error(options.output, suffix,
                       ": exists already; choose another output or --overwrite it");
}

void check_used(const PrepareOptions& options, const std::vector<InputFile>& files) {
  const auto jsonl =
      std::count_if(files.begin(), files.end(), [](const InputFile& file) { return file.jsonl; });
  if (options.json_field && jsonl == 0)
    throw_user_error("a JSON field (\"", *options.json_field,
                     "\") is given, but no input is named .jsonl or .ndjson");
  if (options.document_separator && jsonl == std::ssize(files))
    throw_user_error(
        "a document separator is given, but all inputs are JSONL, where a document is "
        "a line");
}

int thread_count(int asked) {
  if (asked < 0) throw_user_error("threads: ", asked, ", expected 1 or more, or 0 for all cores");
  return asked > 0 ? asked : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

PrepareReport prepare(const PrepareOptions& options) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };

  const auto tokenizer = make_tokenizer(options.tokenizer);
  if (tokenizer->end_of_document() < 0)
    throw_user_error("tokenizer ", options.tokenizer,
                     ": its files do not say which token ends a document; put a "
                     "tokenizer_config.json with \"eos_token\" beside them");
  check_output(options);
  const std::vector<InputFile> files = find_input_files(options.inputs);
  check_used(options, files);
  PrepareReport report;
  report.files = std::ssize(files);
  report.tokenizer = tokenizer->name();
  report.vocab_size = tokenizer->vocab_size();
  report.threads = thread_count(options.threads);

  PrepareProgress progress;
  for (const InputFile& file : files) progress.total_bytes += file.bytes;
  const auto show = [&](const CorpusWriter& corpus) {
    progress.tokens = corpus.tokens();
    progress.seconds = seconds();
    if (options.progress) options.progress(progress);
  };

  const std::vector<Unit> units = make_units(files, options.block_bytes);
  const DocumentEncoder encoder(*tokenizer, options.json_field.value_or("text"),
                                options.document_separator);
  CorpusWriter corpus(options.output, *tokenizer);
  {
    constexpr std::size_t kItemsPerUnit = 4;
    const auto ahead = static_cast<std::size_t>(2 * report.threads + 2);
    Queue queue(units.size(), ahead, kItemsPerUnit);
    const Encoders encoders(units, encoder, options.block_bytes, report.threads, queue);
    while (const auto block = queue.pop()) {
      corpus.add(*block);
      progress.input_bytes += block->input_bytes;
      if (seconds() - progress.seconds > 0.1) show(corpus);
    }
  }
  if (corpus.tokens() == 0)
    throw_user_error(options.inputs.front(),
                     options.inputs.size() > 1 ? " and the other inputs" : "", ": no text in ",
                     report.files, " file", report.files == 1 ? "" : "s");
  keep_tokenizer(options.output, *tokenizer);
  corpus.finish();
  show(corpus);
  corpus.report(report);
  report.seconds = progress.seconds;
  return report;
}

}  // namespace witan

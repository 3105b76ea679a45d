// `witan prepare`: from text to an indexed dataset.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace witan {

struct PrepareProgress {
  std::int64_t input_bytes = 0;  // read so far (compressed where the file is)
  std::int64_t total_bytes = 0;
  std::int64_t tokens = 0;
  double seconds = 0;
};

struct PrepareOptions {
  std::vector<std::string> inputs;  // files and folders, see find_input_files()
  std::string output;               // prefix of the .bin and .idx
  std::string tokenizer = "byte";   // see make_tokenizer()
  // JSONL: the field that holds the text. Absent: "text".
  std::optional<std::string> json_field;
  // Text: a line equal to this divides documents and is not part of them. Absent: a file is a
  // document.
  std::optional<std::string> document_separator;
  int threads = 0;         // 0: as many as this process has cores
  bool overwrite = false;  // a dataset that is already there
  std::int64_t block_bytes = std::int64_t{1} << 20;
  // Called about ten times a second, and at the end, by the calling thread.
  std::function<void(const PrepareProgress&)> progress;
};

struct PrepareReport {
  std::int64_t files = 0;
  std::int64_t documents = 0;
  std::int64_t empty_documents = 0;  // left out
  std::int64_t tokens = 0;           // with one end-of-document per document
  std::int64_t text_bytes = 0;
  std::string tokenizer;  // Tokenizer::name()
  std::int64_t vocab_size = 0;
  int bytes_per_token = 0;
  int threads = 0;
  double seconds = 0;

  double megabytes_per_second() const {
    return seconds > 0 ? static_cast<double>(text_bytes) / 1e6 / seconds : 0;
  }
};

// Streams: memory does not grow with the size of a file (a JSONL line must fit, though, and 4 to 12
// bytes are kept per document). The output depends on the inputs and their order only, not on
// the number of threads, and a compressed file gives what the plain one gives. Nothing stands under
// the output's name before all of it does. The tokenizer's files are kept with the dataset
// (keep_tokenizer()).
PrepareReport prepare(const PrepareOptions& options);

}  // namespace witan

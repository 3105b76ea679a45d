// From blocks of a file to tokens and the ends of documents.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launch/data/block_reader.h"
#include "launch/data/input_files.h"
#include "launch/data/tokenizer.h"

namespace witan {

// A stretch of the corpus. Documents may go on from one to the next; the text where they do is
// encoded together with what is on the other side, so that blocks leave no trace in the tokens.
struct EncodedBlock {
  std::string head;                  // goes on with the document that the block before left open
  std::vector<std::int32_t> tokens;  // without end-of-document
  std::vector<std::size_t> document_ends;  // how many of `tokens` stand before each end
  std::string tail;                        // behind `tokens`, of a document that is still open
  bool ends_file = false;                  // and with it a document that is still open
  std::int64_t text_bytes = 0;             // of documents
  std::int64_t input_bytes = 0;            // taken from the file
};

class DocumentEncoder {
 public:
  // JSONL: a document a line, the string under `json_field`. Text: a document a file, or as many as
  // lines equal to `separator` divide it into.
  DocumentEncoder(const Tokenizer& tokenizer, std::string json_field,
                  std::optional<std::string> separator)
      : tokenizer_(tokenizer),
        json_field_(std::move(json_field)),
        separator_(std::move(separator)) {}

  // UserError: path, line, what is wrong.
  EncodedBlock encode(const InputFile& file, const TextBlock& block) const;

 private:
  void encode_text(const InputFile& file, const TextBlock& block, EncodedBlock& out) const;
  void encode_json_lines(const InputFile& file, const TextBlock& block, EncodedBlock& out) const;
  std::string json_text(const InputFile& file, std::int64_t offset, std::string_view line) const;
  void add(std::string_view text, bool from_block_before, bool open, EncodedBlock& out) const;

  const Tokenizer& tokenizer_;
  std::string json_field_;
  std::optional<std::string> separator_;
};

}  // namespace witan

// Writes a Megatron-LM indexed dataset. Under temporary names until finish(), so that a prefix
// either holds a whole dataset or none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "launch/data/file_descriptor.h"
#include "launch/data/indexed_dataset_format.h"

namespace witan {

class IndexedDatasetWriter {
 public:
  // Megatron stores lengths as int32: a longer document becomes several sequences.
  static constexpr std::int64_t kMaxSequenceTokens = std::int64_t{1} << 30;

  // Tokens are uint16 if the vocabulary is below 65500, else int32 (Megatron's rule). Folders on
  // the way to `prefix` are made.
  IndexedDatasetWriter(const std::string& prefix, std::int64_t vocab_size,
                       std::int64_t max_sequence_tokens = kMaxSequenceTokens);
  // Without finish(): removes the temporary files.
  ~IndexedDatasetWriter();
  IndexedDatasetWriter(const IndexedDatasetWriter&) = delete;
  IndexedDatasetWriter& operator=(const IndexedDatasetWriter&) = delete;

  // Appends to the current document.
  void append(std::span<const std::int32_t> tokens);
  // Ends the current document, which must have tokens.
  void end_document();
  // Both files whole and on disk, then under their names, .idx last (an old .idx goes first).
  void finish();

  std::int64_t document_tokens() const { return document_tokens_; }  // of the current document
  std::int64_t documents() const { return static_cast<std::int64_t>(marks_.size()) - 1; }
  std::int64_t tokens() const { return tokens_; }
  int bytes_per_token() const { return indexed_dataset::bytes_of(type_); }

 private:
  void write_tokens(std::span<const std::int32_t> tokens);
  void flush();
  void write_index() const;

  std::string prefix_;
  std::int64_t vocab_size_;
  std::int64_t max_sequence_tokens_;
  indexed_dataset::TokenType type_;
  FileDescriptor bin_;
  std::vector<std::byte> buffer_;      // tokens not written yet
  std::vector<std::int32_t> lengths_;  // of each sequence
  std::vector<std::int64_t> marks_{0};
  std::int64_t sequence_tokens_ = 0;
  std::int64_t document_tokens_ = 0;
  std::int64_t tokens_ = 0;
  bool finished_ = false;
};

}  // namespace witan

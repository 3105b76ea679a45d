// Megatron-LM's indexed dataset: PREFIX.bin holds the tokens, PREFIX.idx the lengths and offsets of
// the documents.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "launch/data/token_source.h"

namespace witan {

// Read by mmap. Checks magic, version, dtype, sizes, offsets and file lengths when opened
// (UserError names file and what is wrong).
class IndexedDataset final : public TokenSource {
 public:
  explicit IndexedDataset(const std::string& prefix);
  ~IndexedDataset() override;
  IndexedDataset(IndexedDataset&&) noexcept;
  IndexedDataset& operator=(IndexedDataset&&) noexcept;

  const std::string& prefix() const;
  std::int64_t documents() const;  // Megatron's documents (groups of sequences)
  std::int64_t sequences() const;
  std::int64_t tokens() const override;
  int bytes_per_token() const;
  // Of the dataset seen as one stream, sequence after sequence.
  void read(std::int64_t begin, std::span<std::int32_t> out, std::int64_t vocab) const override;
  // Tokens of one sequence.
  std::int64_t sequence_begin(std::int64_t sequence) const;
  std::int64_t sequence_length(std::int64_t sequence) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace witan

// Megatron-LM's indexed dataset: PREFIX.bin holds the tokens, PREFIX.idx the lengths and offsets of
// the documents.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace witan {

// Read by mmap. Checks magic, version, dtype, sizes, offsets and file lengths when opened
// (UserError names file and what is wrong).
class IndexedDataset {
 public:
  explicit IndexedDataset(const std::string& prefix);
  ~IndexedDataset();
  IndexedDataset(IndexedDataset&&) noexcept;
  IndexedDataset& operator=(IndexedDataset&&) noexcept;

  const std::string& prefix() const;
  std::int64_t documents() const;  // Megatron's documents (groups of sequences)
  std::int64_t sequences() const;
  std::int64_t tokens() const;
  int bytes_per_token() const;
  // Tokens [begin, begin + out.size()) of the dataset seen as one stream, sequence after sequence.
  // Token ids are checked against `vocab` (UserError: file, position, id).
  void read(std::int64_t begin, std::span<std::int32_t> out, std::int64_t vocab) const;
  // Tokens of one sequence.
  std::int64_t sequence_begin(std::int64_t sequence) const;
  std::int64_t sequence_length(std::int64_t sequence) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace witan

// A stream of bytes cut into blocks. Where it is cut depends on the bytes alone, so a plain file
// read from many places at once and the same file behind a decompressor give the same blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "launch/data/input_files.h"

namespace witan {

struct TextBlock {
  std::int64_t offset = 0;  // of its first byte in the stream
  bool starts_line = true;
  std::string bytes;
};

class BlockReader {
 public:
  enum class Cut {
    kLinesOnly,  // block k: the lines that begin in bytes [k, k + 1) * block_bytes
    // The same, but a line that covers all of block k is cut where the block begins, though not
    // within a UTF-8 character: memory stays bounded.
    kLongLinesToo
  };

  // All blocks of the file, or block `only_block` alone (uncompressed files).
  BlockReader(const InputFile& file, std::int64_t block_bytes, Cut cut,
              std::optional<std::int64_t> only_block = {});

  // False at the end. Blocks are not empty.
  bool next(TextBlock& block);
  std::int64_t consumed() const { return source_->consumed(); }

 private:
  // Where the first block begins that does not begin before `at`. Stops looking at `limit`.
  std::int64_t boundary(std::int64_t at, std::optional<std::int64_t> limit);
  std::int64_t character_begin(std::int64_t at);
  // Reads until byte `end - 1` of the stream is in the buffer, or the stream ends.
  void fill(std::int64_t end);
  std::int64_t buffer_end() const {
    return buffer_begin_ + static_cast<std::int64_t>(buffer_.size());
  }
  char byte_at(std::int64_t at) const {
    return buffer_[static_cast<std::size_t>(at - buffer_begin_)];
  }

  std::unique_ptr<ByteSource> source_;
  std::int64_t block_bytes_;
  Cut cut_;
  std::string buffer_;  // bytes [buffer_begin_, buffer_end()) of the stream
  std::int64_t buffer_begin_ = 0;
  std::int64_t position_ = 0;        // where the next block begins
  std::optional<std::int64_t> end_;  // no block begins here or later
  bool starts_line_ = true;
  bool at_end_ = false;
};

// Number (from 1) of the line that holds byte `offset` of a file's text. Reads the file anew.
std::int64_t line_number(const InputFile& file, std::int64_t offset);

}  // namespace witan

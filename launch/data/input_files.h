// Which files `witan prepare` reads, and how their bytes come out of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace witan {

enum class Compression { kNone, kGzip, kZstd };

struct InputFile {
  std::string path;
  std::int64_t bytes = 0;  // on disk
  Compression compression = Compression::kNone;
  bool jsonl = false;
};

// Files as given; folders with everything below them, sorted by name, without hidden files. What a
// file is follows from its name: .gz, .zst, .zstd; within, .jsonl and .ndjson; all else is text.
// UserError for a path that is missing, a folder without files, or a link that leads back to a
// folder it lies in.
std::vector<InputFile> find_input_files(const std::vector<std::string>& paths);

// A stream of (decompressed) bytes.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills `out` unless the data ends before; returns how many bytes it wrote. UserError if the data
  // is truncated or corrupt.
  virtual std::size_t read(std::span<char> out) = 0;
  // Bytes of the file taken so far.
  virtual std::int64_t consumed() const = 0;
};

// `begin`: where to start, for uncompressed files.
std::unique_ptr<ByteSource> open_source(const InputFile& file, std::int64_t begin = 0);

}  // namespace witan

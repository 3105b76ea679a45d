// A file that is either written whole and on disk, or not there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace witan {

// What a manifest says about a file.
struct FileDigest {
  std::uint64_t bytes = 0;
  std::uint64_t xxh3 = 0;  // XXH3, 64 bits, of all bytes
  friend bool operator==(const FileDigest&, const FileDigest&) = default;
};

// Creates PATH, or empties it. Every system call is checked: a failure is a UserError that names
// the file, the reason and, if `expected_bytes` is given, how many bytes are missing. Without
// finish() the file is removed.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path, std::uint64_t expected_bytes = 0);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  const std::string& path() const;
  std::uint64_t bytes() const;  // written so far
  void write(const void* data, std::size_t bytes);
  // Flushes to the disk (fsync) and closes.
  FileDigest finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A small file in one go.
FileDigest write_text_file(const std::string& path, const std::string& text);

// Reads a small file whole; UserError if it cannot be read.
std::string read_text_file(const std::string& path);

// Size and checksum of what is on the disk now.
FileDigest digest_of_file(const std::string& path);

// Makes the entries of a folder (files created or renamed in it) survive a power cut.
void sync_folder(const std::string& path);

}  // namespace witan

// Files by descriptor, with messages that name the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace witan {

// Owns an open file. Movable.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  ~FileDescriptor() { close(); }
  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;

  // Opens a regular file to read it. UserError if it is missing, unreadable or a folder.
  static FileDescriptor open_to_read(const std::string& path);
  // Creates or truncates `path`. UserError if that is impossible or another process is writing it.
  static FileDescriptor create(const std::string& path);

  bool is_open() const { return fd_ >= 0; }
  int get() const { return fd_; }
  const std::string& path() const { return path_; }
  std::int64_t size() const;
  // Reads at `offset` until `out` is full or the file ends; returns the bytes read.
  std::size_t read_at(std::int64_t offset, std::span<char> out) const;
  void write(std::span<const std::byte> bytes) const;
  void sync() const;
  void close();

 private:
  int fd_ = -1;
  std::string path_;
};

// The folder a path lies in; "." if it names none.
std::string parent_folder(const std::string& path);
// Rename and remove that survive a power cut. Removing what is not there is no error.
void rename_durably(const std::string& from, const std::string& to);
void remove_durably(const std::string& path);

}  // namespace witan

#include "launch/data/file_descriptor.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/base/error.h"

namespace witan {
namespace {

std::string reason() { return std::strerror(errno); }

// Makes a change of the entries of a folder durable.
void sync_entries(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  WITAN_CHECK(fd >= 0, folder, ": cannot be opened: ", reason());
  const bool good = ::fsync(fd) == 0 || errno == EINVAL;
  const std::string why = reason();
  ::close(fd);
  WITAN_CHECK(good, folder, ": fsync failed: ", why);
}

}  // namespace

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
    path_ = std::move(other.path_);
  }
  return *this;
}

FileDescriptor FileDescriptor::open_to_read(const std::string& path) {
  FileDescriptor file;
  file.path_ = path;
  file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file.fd_ < 0) throw_user_error(path, ": cannot be read: ", reason());
  struct stat status {};
  WITAN_CHECK(::fstat(file.fd_, &status) == 0, path, ": ", reason());
  if (S_ISDIR(status.st_mode)) throw_user_error(path, ": is a folder, expected a file");
  if (!S_ISREG(status.st_mode)) throw_user_error(path, ": is not a regular file");
  return file;
}

FileDescriptor FileDescriptor::create(const std::string& path) {
  FileDescriptor file;
  file.path_ = path;
  file.fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (file.fd_ < 0) throw_user_error(path, ": cannot be written: ", reason());
  // Not every shared file system has locks; where there are none, two writers are not noticed.
  if (::flock(file.fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    throw_user_error(path, ": another process is writing it");
  struct stat status {};
  WITAN_CHECK(::fstat(file.fd_, &status) == 0, path, ": ", reason());
  if (S_ISREG(status.st_mode))
    WITAN_CHECK(::ftruncate(file.fd_, 0) == 0, path, ": cannot be truncated: ", reason());
  return file;
}

std::int64_t FileDescriptor::size() const {
  struct stat status {};
  WITAN_CHECK(::fstat(fd_, &status) == 0, path_, ": ", reason());
  return status.st_size;
}

std::size_t FileDescriptor::read_at(std::int64_t offset, std::span<char> out) const {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::pread(fd_, out.data() + done, out.size() - done,
                              static_cast<off_t>(offset + static_cast<std::int64_t>(done)));
    if (n < 0 && errno == EINTR) continue;
    WITAN_CHECK(n >= 0, path_, ": reading at byte ", offset, " failed: ", reason());
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

void FileDescriptor::write(std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    WITAN_CHECK(n > 0, path_, ": writing failed: ", reason());
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void FileDescriptor::sync() const {
  WITAN_CHECK(::fsync(fd_) == 0 || errno == EINVAL, path_, ": fsync failed: ", reason());
}

void FileDescriptor::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

std::string parent_folder(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

void rename_durably(const std::string& from, const std::string& to) {
  WITAN_CHECK(std::rename(from.c_str(), to.c_str()) == 0, "renaming ", from, " to ", to,
              " failed: ", reason());
  sync_entries(parent_folder(to));
}

void remove_durably(const std::string& path) {
  WITAN_CHECK(::unlink(path.c_str()) == 0 || errno == ENOENT, "removing ", path,
              " failed: ", reason());
  sync_entries(parent_folder(path));
}

}  // namespace witan

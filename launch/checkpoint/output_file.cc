#include "launch/checkpoint/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include "core/base/error.h"

namespace witan {
namespace {

std::string reason_of(int error) { return std::generic_category().message(error); }

struct FreeHash {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};
using Hash = std::unique_ptr<XXH3_state_t, FreeHash>;

Hash new_hash() {
  Hash hash(XXH3_createState());
  WITAN_CHECK(hash && XXH3_64bits_reset(hash.get()) == XXH_OK, "cannot start a checksum");
  return hash;
}

}  // namespace

struct OutputFile::Impl {
  std::string path;
  std::uint64_t expected = 0;
  std::uint64_t written = 0;
  int fd = -1;
  bool regular = false;  // a device (/dev/full, /dev/stdout) is not ours to remove
  bool finished = false;
  Hash hash;

  [[noreturn]] void fail(const char* what, int error) const {
    std::string missing;
    if (expected > written) {
      missing = detail::concat("; ", expected - written, " of ", expected, " bytes are missing");
    }
    throw_user_error(path, ": cannot ", what, ": ", reason_of(error), missing);
  }
};

OutputFile::OutputFile(const std::string& path, std::uint64_t expected_bytes)
    : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  impl_->expected = expected_bytes;
  impl_->hash = new_hash();
  impl_->fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (impl_->fd < 0) impl_->fail("create the file", errno);
  struct stat status {};
  impl_->regular = ::fstat(impl_->fd, &status) == 0 && S_ISREG(status.st_mode);
}

OutputFile::~OutputFile() {
  if (impl_->fd >= 0) ::close(impl_->fd);
  if (!impl_->finished && impl_->regular) ::unlink(impl_->path.c_str());
}

const std::string& OutputFile::path() const { return impl_->path; }
std::uint64_t OutputFile::bytes() const { return impl_->written; }

void OutputFile::write(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const std::byte*>(data);
  XXH3_64bits_update(impl_->hash.get(), next, bytes);
  while (bytes > 0) {
    constexpr std::size_t kLargest = std::size_t{1} << 30;  // Linux writes at most 2 GiB at once
    const ssize_t count = ::write(impl_->fd, next, std::min(bytes, kLargest));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) impl_->fail("write the file", errno);
    if (count == 0) impl_->fail("write the file", ENOSPC);
    next += count;
    bytes -= static_cast<std::size_t>(count);
    impl_->written += static_cast<std::uint64_t>(count);
  }
}

FileDigest OutputFile::finish() {
  if (::fsync(impl_->fd) != 0) impl_->fail("bring the file to the disk", errno);
  const int fd = std::exchange(impl_->fd, -1);
  if (::close(fd) != 0) impl_->fail("close the file", errno);
  impl_->finished = true;
  return {impl_->written, XXH3_64bits_digest(impl_->hash.get())};
}

FileDigest write_text_file(const std::string& path, const std::string& text) {
  OutputFile file(path, text.size());
  file.write(text.data(), text.size());
  return file.finish();
}

std::string read_text_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw_user_error(path, ": cannot open the file: ", reason_of(errno));
  std::ostringstream text;
  text << in.rdbuf();
  if (in.bad()) throw_user_error(path, ": cannot read the file: ", reason_of(errno));
  return std::move(text).str();
}

FileDigest digest_of_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw_user_error(path, ": cannot open the file: ", reason_of(errno));
  const Hash hash = new_hash();
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  FileDigest digest;
  for (;;) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int error = errno;
      ::close(fd);
      throw_user_error(path, ": cannot read the file: ", reason_of(error));
    }
    if (count == 0) break;
    XXH3_64bits_update(hash.get(), buffer.data(), static_cast<std::size_t>(count));
    digest.bytes += static_cast<std::uint64_t>(count);
  }
  ::close(fd);
  digest.xxh3 = XXH3_64bits_digest(hash.get());
  return digest;
}

void sync_folder(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw_user_error(path, ": cannot open the folder: ", reason_of(errno));
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  // Some file systems (FUSE, older NFS) have no fsync of a folder; their renames are as durable as
  // they get.
  if (result != 0 && error != EINVAL && error != ENOTSUP) {
    throw_user_error(path, ": cannot bring the folder to the disk: ", reason_of(error));
  }
}

}  // namespace witan

#include "launch/data/tokenizers/process.h"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/base/error.h"

namespace witan {
namespace {

// A file in memory: whatever the order in which a program reads and writes, nobody waits.
class MemoryFile {
 public:
  MemoryFile() : fd_(::memfd_create("witan", MFD_CLOEXEC)) {
    WITAN_CHECK(fd_ >= 0, "memfd_create: ", std::strerror(errno));
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  int get() const { return fd_; }
  // Leaves the position at the start.
  void fill(std::string_view text) const {
    for (std::size_t at = 0; at < text.size();) {
      const ssize_t written =
          ::pwrite(fd_, text.data() + at, text.size() - at, static_cast<off_t>(at));
      WITAN_CHECK(written > 0, "a file in memory: ", std::strerror(errno));
      at += static_cast<std::size_t>(written);
    }
  }
  std::string content() const {
    struct stat status {};
    WITAN_CHECK(::fstat(fd_, &status) == 0, "a file in memory: ", std::strerror(errno));
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    for (std::size_t at = 0; at < text.size();) {
      const ssize_t read = ::pread(fd_, text.data() + at, text.size() - at, static_cast<off_t>(at));
      WITAN_CHECK(read > 0, "a file in memory: ", std::strerror(errno));
      at += static_cast<std::size_t>(read);
    }
    return text;
  }

 private:
  int fd_;
};

struct FileActions {
  FileActions() { posix_spawn_file_actions_init(&value); }
  ~FileActions() { posix_spawn_file_actions_destroy(&value); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  posix_spawn_file_actions_t value{};
};

int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    WITAN_CHECK(errno == EINTR, "waitpid: ", std::strerror(errno));
  }
  return status;
}

}  // namespace

std::string run_filter(const std::vector<std::string>& arguments, std::string_view input,
                       const std::string& package) {
  const MemoryFile in, out, messages;
  in.fill(input);
  FileActions actions;
  posix_spawn_file_actions_adddup2(&actions.value, in.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions.value, out.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions.value, messages.get(), STDERR_FILENO);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);

  pid_t child = 0;
  const int error = ::posix_spawnp(&child, argv[0], &actions.value, nullptr, argv.data(), environ);
  if (error != 0) {
    throw_user_error(arguments[0], ": cannot be run: ", std::strerror(error), "; it is part of ",
                     package);
  }
  const int status = wait_for(child);
  if (status != 0) {
    std::string command;
    for (const std::string& argument : arguments) command += argument + " ";
    throw_user_error(command, "failed: ", messages.content());
  }
  return out.content();
}

}  // namespace witan

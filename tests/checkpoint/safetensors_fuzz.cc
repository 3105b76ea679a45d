// libFuzzer: whatever the bytes, the reader refuses them with a UserError that names the file, or
// gives sound tensors. Built with clang by .ci/fuzz.sh, not with the tests.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "core/base/error.h"
#include "tests/checkpoint/sound_tensors.h"

namespace {

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "safetensors_fuzz: %s\n", what.c_str());
  std::abort();
}

// A file in memory, under a path.
class MemoryFile {
 public:
  MemoryFile(const std::uint8_t* data, std::size_t size) : file_(memfd_create("fuzz", 0)) {
    if (file_ < 0 || write(file_, data, size) != static_cast<ssize_t>(size)) fail("no memory file");
  }
  ~MemoryFile() { close(file_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(file_); }

 private:
  int file_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile file(data, size);
  try {
    const witan::SafetensorsReader reader(file.path());
    const std::string problem = witan::what_is_unsound(reader, size);
    if (!problem.empty()) fail(problem);
  } catch (const witan::UserError& error) {
    const std::string text = error.what();
    if (text.find(file.path()) == std::string::npos) fail("names no file: " + text);
  }
  return 0;
}

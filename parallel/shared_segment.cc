#include "parallel/shared_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "core/base/error.h"

namespace witan {

SharedSegment SharedSegment::create(std::size_t bytes) {
  SharedSegment segment;
  segment.size_ = bytes;
  segment.descriptor_ = memfd_create("witan", MFD_CLOEXEC);
  WITAN_CHECK(segment.descriptor_ >= 0, "memfd_create failed: ", std::strerror(errno));
  const int resized = ftruncate(segment.descriptor_, static_cast<off_t>(bytes));
  WITAN_CHECK(resized == 0, "shared memory of ", bytes, " bytes: ", std::strerror(errno));
  segment.map(PROT_READ | PROT_WRITE);
  // Large pages where the system grants them; a refusal costs nothing but speed.
  madvise(segment.data_, bytes, MADV_HUGEPAGE);
  return segment;
}

SharedSegment SharedSegment::open(std::int64_t process, std::int64_t descriptor,
                                  std::size_t bytes) {
  const std::string path = "/proc/" + std::to_string(process) + "/fd/" + std::to_string(descriptor);
  SharedSegment segment;
  segment.size_ = bytes;
  segment.descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  WITAN_CHECK(segment.descriptor_ >= 0, path, ": ", std::strerror(errno));
  segment.map(PROT_READ);
  // The mapping holds the memory.
  close(std::exchange(segment.descriptor_, -1));
  return segment;
}

void SharedSegment::map(int protection) {
  void* memory = mmap(nullptr, size_, protection, MAP_SHARED, descriptor_, 0);
  WITAN_CHECK(memory != MAP_FAILED, "mapping ", size_,
              " bytes of shared memory: ", std::strerror(errno));
  data_ = static_cast<std::byte*>(memory);
}

SharedSegment::~SharedSegment() {
  if (data_ != nullptr) munmap(data_, size_);
  if (descriptor_ >= 0) close(descriptor_);
}

SharedSegment::SharedSegment(SharedSegment&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

SharedSegment& SharedSegment::operator=(SharedSegment&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

}  // namespace witan

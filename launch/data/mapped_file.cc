#include "launch/data/mapped_file.h"

#include <sys/mman.h>

#include <cerrno>

#include "core/base/error.h"
#include "launch/data/file_descriptor.h"

namespace witan {

MappedFile::MappedFile(const std::string& path, int advice) {
  const FileDescriptor file = FileDescriptor::open_to_read(path);
  size_ = static_cast<std::size_t>(file.size());
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.get(), 0);
  WITAN_CHECK(address != MAP_FAILED, path, ": mmap failed: ", std::strerror(errno));
  data_ = static_cast<const std::byte*>(address);
  ::madvise(address, size_, advice);  // a hint: its failure changes nothing
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace witan

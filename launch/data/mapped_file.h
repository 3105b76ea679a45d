// A whole file mapped read-only; pages are read when touched.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>

namespace witan {

class MappedFile {
 public:
  // `advice`: MADV_RANDOM, ... UserError if the file cannot be read.
  MappedFile(const std::string& path, int advice);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::size_t size() const { return size_; }
  const std::byte* data() const { return data_; }

  // The value at a byte offset, which need not be aligned.
  template <class T>
  T load(std::size_t offset) const {
    T value;
    std::memcpy(&value, data_ + offset, sizeof(T));
    return value;
  }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace witan

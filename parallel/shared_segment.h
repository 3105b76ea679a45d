// Memory that other processes of this node can read: anonymous (no file to leave behind, no limit
// of /dev/shm), opened by them through the owner's file descriptor.
#pragma once

#include <cstddef>
#include <cstdint>

namespace witan {

class SharedSegment {
 public:
  SharedSegment() = default;
  // Zeros, to be written by this process. Throws if the system has no memory for it.
  static SharedSegment create(std::size_t bytes);
  // The segment of another process, to be read. Throws if the system does not let this process
  // look into that one.
  static SharedSegment open(std::int64_t process, std::int64_t descriptor, std::size_t bytes);
  ~SharedSegment();
  SharedSegment(SharedSegment&& other) noexcept;
  SharedSegment& operator=(SharedSegment&& other) noexcept;
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::int64_t descriptor() const { return descriptor_; }  // the owner's

 private:
  void map(int protection);

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  int descriptor_ = -1;
};

}  // namespace witan

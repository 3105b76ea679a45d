// Shared memory of one block: fresh for every block, filled with a pattern that is NaN, and with
// red zones behind every variable.
#pragma once

#include <cstddef>
#include <vector>

namespace witan::cuda_on_cpu {

class SharedMemory {
 public:
  explicit SharedMemory(std::size_t dynamic_bytes);

  void* dynamic() { return bytes_.data(); }
  // The variable behind `key`; null if the block's memory does not hold it any more.
  void* variable(const void* key, std::size_t bytes, std::size_t alignment);
  bool red_zones_intact() const;

 private:
  struct Variable {
    const void* key;
    std::size_t begin;
    std::size_t end;
  };
  void* add(const void* key, std::size_t bytes, std::size_t alignment);

  std::size_t limit_;
  std::vector<unsigned char> bytes_;
  std::vector<Variable> variables_;
  std::size_t payload_ = 0;  // bytes that CUDA would count
};

}  // namespace witan::cuda_on_cpu

// Scratch memory of operations in flight: one arena each, re-used by size, so that a repeated
// sequence of operations allocates only once.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor/arena.h"

namespace witan {

class ScratchPool {
 public:
  // `source` null: ordinary memory.
  explicit ScratchPool(std::string name, BlockSource* source = nullptr)
      : name_(std::move(name)), source_(source) {}

  // An empty arena: the smallest idle one that has room for `bytes`, else the largest, which will
  // grow, else a new one.
  Arena& take(std::size_t bytes);
  void give_back(Arena& arena);

 private:
  struct Entry {
    std::unique_ptr<Arena> arena;
    bool idle = false;
  };
  std::string name_;
  BlockSource* source_;
  std::vector<Entry> entries_;
};

}  // namespace witan

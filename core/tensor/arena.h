// Memory of one step: handed out by bumping a pointer, given back all at once. It grows to a
// high-water mark, after which a step allocates nothing. One arena per micro-batch in flight; not
// thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor/tensor_view.h"

namespace witan {

// Where arenas take their blocks from, if not from their device: memory that others can see.
class BlockSource {
 public:
  // Memory aligned to kTensorAlignment; throws if there is none.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void release(void* data) noexcept = 0;

 protected:
  ~BlockSource() = default;
};

class Arena {
 public:
  // `source` null: memory of the device.
  explicit Arena(Device device = {}, std::string name = "arena", BlockSource* source = nullptr);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Uninitialised memory, aligned to kTensorAlignment. `label` (a layer, for example) names who
  // asked when the arena has to grow; growth is reported once per reset() through the callback
  // below.
  TensorView allocate(const Shape& shape, DType dtype, const char* label = "");

  // Stack discipline inside a step: temporaries taken after mark() are given back by rewind().
  struct Mark {
    std::size_t block = 0;
    std::size_t used = 0;
    std::size_t total = 0;
  };
  Mark mark() const;
  // Of its blocks: another number whenever one is taken or given back, in any arena. At the same
  // generation and mark the same requests get the same addresses.
  std::int64_t generation() const { return generation_; }
  void rewind(const Mark& mark);

  // Gives everything back. If the step needed more than one block, they are merged into one of the
  // high-water size, so that the next step of the same size allocates nothing.
  void reset();

  std::size_t bytes_used() const { return total_; }
  std::size_t bytes_high_water() const { return high_water_; }
  std::size_t bytes_reserved() const;
  Device device() const { return device_; }

  // Called when a block is added: arena name, layer of the model that is running (-1: none), label
  // of the request, bytes of the new block, bytes reserved in all.
  using GrowthLog = void (*)(const char* arena, int layer, const char* label, std::size_t bytes,
                             std::size_t reserved);
  static void set_growth_log(GrowthLog log);

 private:
  struct Block {
    void* data;
    std::size_t capacity;
  };
  void add_block(std::size_t bytes, const char* label);
  void free_blocks() noexcept;

  Device device_;
  std::string name_;
  BlockSource* source_;
  std::vector<Block> blocks_;
  std::int64_t generation_ = 0;
  std::size_t current_ = 0;  // block that is being filled
  std::size_t used_ = 0;     // bytes used in it
  std::size_t total_ = 0;    // bytes in use over all blocks
  std::size_t high_water_ = 0;
};

// Rewinds on scope exit.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.rewind(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace witan

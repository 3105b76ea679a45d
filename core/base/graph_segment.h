// A stretch of device work that is the same at every call but for what is in memory, enqueued as
// one CUDA graph instead of kernel by kernel, which spares the host most of its part.
//
// A graph repeats addresses, extents and choices as they were when it was captured. So the caller
// hands in a key of everything that they follow from, and a graph is launched only where the whole
// key is equal:
//   first time a key is seen    the work runs as it is; scratch memory grows to what it needs
//   second time                 it is captured, and launched
//   from then on                launched; the work's host code does not run
// The work enqueues on one stream, does not wait and leaves nothing on the host that is needed
// later.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/context.h"
#include "core/base/error.h"

namespace witan {

class GraphKey {
 public:
  void add(std::int64_t value) {
    WITAN_CHECK(size_ < kMost, "the key of a graph has at most ", kMost, " words");
    words_[size_++] = value;
  }
  void add(const void* address) {
    add(static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(address)));
  }
  friend bool operator==(const GraphKey& a, const GraphKey& b) {
    return a.size_ == b.size_ &&
           std::equal(a.words_.begin(), a.words_.begin() + static_cast<std::ptrdiff_t>(a.size_),
                      b.words_.begin());
  }

 private:
  static constexpr std::size_t kMost = 192;
  std::array<std::int64_t, kMost> words_;  // the first size_ of them
  std::size_t size_ = 0;
};

class GraphSegment {
 public:
  GraphSegment() = default;
  ~GraphSegment();
  GraphSegment(const GraphSegment&) = delete;
  GraphSegment& operator=(const GraphSegment&) = delete;

  // Enqueues on ctx.stream (CUDA) what work() enqueues there.
  template <class Work>
  void run(const Context& ctx, const GraphKey& key, const Work& work) {
    switch (begin(ctx, key)) {
      case Step::kLaunched: return;
      case Step::kRun: return work();
      case Step::kCapture: break;
    }
    try {
      work();
    } catch (...) {
      abandon(ctx);
      throw;
    }
    launch_captured(ctx);
  }

  struct Counts {
    std::int64_t run = 0, captured = 0, launched = 0;  // captured graphs count as launched too
  };
  const Counts& counts() const { return counts_; }

 private:
  enum class Step { kLaunched, kRun, kCapture };
  Step begin(const Context& ctx, const GraphKey& key);
  void launch_captured(const Context& ctx);
  void abandon(const Context& ctx) noexcept;

  struct Entry {
    GraphKey key;
    void* graph = nullptr;  // null: seen once
    std::int64_t last_used = 0;
  };
  // A training step, an evaluation, a recomputed forward: the least recently used goes.
  static constexpr std::size_t kEntries = 4;
  std::vector<Entry> entries_;
  Entry* capturing_ = nullptr;
  Counts counts_;
  std::int64_t clock_ = 0;
};

}  // namespace witan

#include "parallel/scratch_pool.h"

#include <utility>

namespace witan {

Arena& ScratchPool::take(std::size_t bytes) {
  const auto better = [bytes](const Arena& a, const Arena& b) {
    const bool a_fits = a.bytes_reserved() >= bytes;
    const bool b_fits = b.bytes_reserved() >= bytes;
    if (a_fits != b_fits) return a_fits;
    return a_fits ? a.bytes_reserved() < b.bytes_reserved()
                  : a.bytes_reserved() > b.bytes_reserved();
  };
  Entry* best = nullptr;
  for (Entry& entry : entries_) {
    if (entry.idle && (best == nullptr || better(*entry.arena, *best->arena))) best = &entry;
  }
  if (best == nullptr) {
    entries_.push_back({std::make_unique<Arena>(Device{}, name_, source_)});
    best = &entries_.back();
  }
  best->idle = false;
  return *best->arena;
}

void ScratchPool::give_back(Arena& arena) {
  arena.reset();
  for (Entry& entry : entries_) {
    if (entry.arena.get() == &arena) entry.idle = true;
  }
}

}  // namespace witan

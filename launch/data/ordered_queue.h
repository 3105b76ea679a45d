// Work that is done by many threads and handed on in order. Units 0 .. units - 1 are claimed in
// order; each gives any number of items. The consumer sees all items of unit 0, then those of unit
// 1, ... A producer that runs ahead waits, so memory is bounded; the first open unit is always in
// somebody's hands and never waits for another, so nothing deadlocks.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>

namespace witan {

template <class Item>
class OrderedQueue {
 public:
  // At most `ahead` units are open at a time, at most `items` of each wait.
  OrderedQueue(std::size_t units, std::size_t ahead, std::size_t items)
      : units_(units), ahead_(ahead), items_(items) {}

  // Producer: the next unit; none if there are no more, or the consumer has stopped.
  std::optional<std::size_t> claim() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock,
                  [&] { return stopped_ || claimed_ == units_ || claimed_ < first_ + ahead_; });
    if (stopped_ || claimed_ == units_) return {};
    open_.emplace_back();
    return claimed_++;
  }

  // Producer: false if the consumer has stopped.
  bool push(std::size_t unit, Item item) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stopped_ || of(unit).items.size() < items_; });
    if (stopped_) return false;
    of(unit).items.push_back(std::move(item));
    changed_.notify_all();
    return true;
  }

  // Producer: the unit is complete, or failed.
  void close(std::size_t unit, std::exception_ptr failure = nullptr) {
    const std::lock_guard lock(mutex_);
    of(unit).closed = true;
    of(unit).failure = std::move(failure);
    changed_.notify_all();
  }

  // Consumer: the next item in order, none at the end. Rethrows a unit's failure in its turn.
  std::optional<Item> pop() {
    std::unique_lock lock(mutex_);
    while (first_ < units_) {
      changed_.wait(lock, [&] {
        return !open_.empty() && (!open_.front().items.empty() || open_.front().closed);
      });
      Unit& unit = open_.front();
      if (!unit.items.empty()) {
        Item item = std::move(unit.items.front());
        unit.items.pop_front();
        changed_.notify_all();
        return item;
      }
      if (unit.failure) std::rethrow_exception(unit.failure);
      open_.pop_front();
      ++first_;
      changed_.notify_all();
    }
    return {};
  }

  // Consumer: wants no more; producers return at their next call.
  void stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }

 private:
  struct Unit {
    std::deque<Item> items;
    bool closed = false;
    std::exception_ptr failure;
  };
  Unit& of(std::size_t unit) { return open_[unit - first_]; }

  std::size_t units_, ahead_, items_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Unit> open_;  // units first_ .. claimed_ - 1
  std::size_t first_ = 0, claimed_ = 0;
  bool stopped_ = false;
};

}  // namespace witan

// First in, first out, of things that are kept for the next ones: what they have allocated stays.
#pragma once

#include <deque>
#include <memory>
#include <utility>

namespace witan {

template <class T>
class RecycledQueue {
 public:
  bool empty() const { return open_.empty(); }
  // The newest: an old one again, or T().
  T& push() {
    if (idle_.empty()) idle_.push_back(std::make_unique<T>());
    open_.push_back(std::move(idle_.back()));
    idle_.pop_back();
    return *open_.back();
  }
  T& oldest() { return *open_.front(); }
  void pop() {
    idle_.push_back(std::move(open_.front()));
    open_.pop_front();
  }

 private:
  std::deque<std::unique_ptr<T>> open_, idle_;
};

}  // namespace witan

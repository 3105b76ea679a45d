// Operations of a communicator, kept for the next ones: a steady step allocates none.
#pragma once

#include <memory>
#include <vector>

namespace witan {

template <class Operation>
class OperationPool {
 public:
  // One that is not in flight: an old one, or Operation(owner).
  template <class Owner>
  Operation& take(Owner& owner) {
    if (idle_.empty()) {
      all_.push_back(std::make_unique<Operation>(owner));
      idle_.reserve(all_.size());  // so that give_back() never allocates
      idle_.push_back(all_.back().get());
    }
    Operation& operation = *idle_.back();
    idle_.pop_back();
    return operation;
  }
  void give_back(Operation& operation) noexcept { idle_.push_back(&operation); }

 private:
  std::vector<std::unique_ptr<Operation>> all_;
  std::vector<Operation*> idle_;
};

}  // namespace witan

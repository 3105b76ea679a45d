// One stack that runs functions which can be left in the middle and taken up again.
#pragma once

#include <boost/context/fiber.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <cstddef>
#include <functional>

namespace witan::cuda_on_cpu {

class Fiber {
 public:
  Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs `body` from its beginning until it ends or calls yield(). It may not throw.
  void start(const std::function<void()>& body);
  // Goes on behind the yield().
  void resume();
  bool ended() const { return ended_; }

  // From inside: back to whoever started or resumed this fiber.
  void yield();

 private:
  void switch_in();

  const std::function<void()>* body_ = nullptr;
  bool ended_ = true;
  boost::context::fiber inside_;
  boost::context::fiber outside_;

  // What the sanitizers want to know about every change of stack.
  const void* stack_bottom_ = nullptr;
  std::size_t stack_size_ = 0;
  const void* outside_bottom_ = nullptr;
  std::size_t outside_size_ = 0;
  void* tsan_inside_ = nullptr;
  void* tsan_outside_ = nullptr;
};

}  // namespace witan::cuda_on_cpu

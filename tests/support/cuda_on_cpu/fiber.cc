#include "tests/support/cuda_on_cpu/fiber.h"

#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace witan::cuda_on_cpu {
namespace {

constexpr std::size_t kStackBytes = std::size_t{128} << 10;

// The announcements of a change of stack; without a sanitizer they are empty.
void leave_stack([[maybe_unused]] void** saved, [[maybe_unused]] const void* to_bottom,
                 [[maybe_unused]] std::size_t to_size, [[maybe_unused]] void* tsan_to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(saved, to_bottom, to_size);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(tsan_to, 0);
#endif
}

void enter_stack([[maybe_unused]] void* saved, [[maybe_unused]] const void** from_bottom,
                 [[maybe_unused]] std::size_t* from_size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(saved, from_bottom, from_size);
#endif
}

}  // namespace

Fiber::Fiber() {
  boost::context::protected_fixedsize_stack allocator(kStackBytes);
  const boost::context::stack_context stack = allocator.allocate();
  stack_size_ = stack.size;
  stack_bottom_ = static_cast<const char*>(stack.sp) - stack.size;
#if defined(__SANITIZE_THREAD__)
  tsan_inside_ = __tsan_create_fiber(0);
#endif
  inside_ = boost::context::fiber(
      std::allocator_arg, boost::context::preallocated(stack.sp, stack.size, stack), allocator,
      [this](boost::context::fiber&& caller) -> boost::context::fiber {
        outside_ = std::move(caller);
        enter_stack(nullptr, &outside_bottom_, &outside_size_);
        for (;;) {
          (*body_)();
          ended_ = true;
          yield();
        }
      });
}

void Fiber::start(const std::function<void()>& body) {
  body_ = &body;
  ended_ = false;
  switch_in();
}

void Fiber::resume() { switch_in(); }

void Fiber::switch_in() {
  void* saved = nullptr;
#if defined(__SANITIZE_THREAD__)
  tsan_outside_ = __tsan_get_current_fiber();
#endif
  leave_stack(&saved, stack_bottom_, stack_size_, tsan_inside_);
  inside_ = std::move(inside_).resume();
  enter_stack(saved, nullptr, nullptr);
}

void Fiber::yield() {
  void* saved = nullptr;
  leave_stack(&saved, outside_bottom_, outside_size_, tsan_outside_);
  outside_ = std::move(outside_).resume();
  enter_stack(saved, &outside_bottom_, &outside_size_);
}

}  // namespace witan::cuda_on_cpu

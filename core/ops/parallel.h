// Threads inside an op: OpenMP loops whose errors reach the caller. What runs where never decides a
// result: each index writes its own output, so any number of threads gives the same bits.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace witan::ops {

// Threads that a loop started here would get: 1 inside another parallel loop or without OpenMP.
inline int available_threads() {
#ifdef _OPENMP
  return omp_in_parallel() != 0 ? 1 : omp_get_max_threads();
#else
  return 1;
#endif
}

namespace detail {

// The first exception of a parallel region, kept for the thread that started it.
class FirstError {
 public:
  template <class F>
  void guard(F&& f) noexcept {
    try {
      f();
    } catch (...) {
      if (!taken_.exchange(true)) error_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::atomic<bool> taken_{false};
  std::exception_ptr error_;
};

}  // namespace detail

// f(index) for 0 .. count - 1, in a fixed share of neighbouring indices per thread.
template <class F>
void parallel_for(std::int64_t count, const F& f) {
  if (count <= 1 || available_threads() == 1) {
    for (std::int64_t i = 0; i < count; ++i) f(i);
    return;
  }
  detail::FirstError error;
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < count; ++i) error.guard([&] { f(i); });
  error.rethrow();
}

// f(index) for 0 .. count - 1; a thread that is free takes the next index. For uneven work, largest
// first.
template <class F>
void parallel_for_dynamic(std::int64_t count, const F& f) {
  if (count <= 1 || available_threads() == 1) {
    for (std::int64_t i = 0; i < count; ++i) f(i);
    return;
  }
  detail::FirstError error;
#pragma omp parallel for schedule(dynamic, 1)
  for (std::int64_t i = 0; i < count; ++i) error.guard([&] { f(i); });
  error.rethrow();
}

// f(begin, end) over 0 .. count - 1 in at most one range per thread, none (but the last) smaller
// than `grain`, so that small loops stay on the caller's thread. Boundaries are multiples of
// `multiple`.
template <class F>
void parallel_ranges(std::int64_t count, std::int64_t grain, const F& f,
                     std::int64_t multiple = 1) {
  if (count <= 0) return;
  const std::int64_t most = std::max<std::int64_t>(1, count / std::max<std::int64_t>(1, grain));
  const std::int64_t ranges = std::min<std::int64_t>(available_threads(), most);
  const std::int64_t units = (count + multiple - 1) / multiple;
  parallel_for(ranges, [&](std::int64_t range) {
    const std::int64_t begin = std::min(count, units * range / ranges * multiple);
    const std::int64_t end = std::min(count, units * (range + 1) / ranges * multiple);
    if (begin < end) f(begin, end);
  });
}

}  // namespace witan::ops

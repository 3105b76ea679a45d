// Sets the number of OpenMP threads while it lives; without OpenMP there is one, whatever is asked.
#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

namespace witan::test {

class ScopedThreads {
 public:
#ifdef _OPENMP
  explicit ScopedThreads(int threads) : before_(omp_get_max_threads()) {
    omp_set_num_threads(threads);
  }
  ~ScopedThreads() { omp_set_num_threads(before_); }
#else
  explicit ScopedThreads(int) {}
  ~ScopedThreads() = default;
#endif
  ScopedThreads(const ScopedThreads&) = delete;
  ScopedThreads& operator=(const ScopedThreads&) = delete;

#ifdef _OPENMP
 private:
  int before_;
#endif
};

}  // namespace witan::test

// OpenMP's two questions, answered also in a build without it. Internal linkage: kernel files may
// not emit shared inline functions.
#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

namespace witan::cpu {

#ifdef _OPENMP
[[maybe_unused]] static int max_threads() { return omp_get_max_threads(); }
[[maybe_unused]] static int thread_index() { return omp_get_thread_num(); }
#else
[[maybe_unused]] static int max_threads() { return 1; }
[[maybe_unused]] static int thread_index() { return 0; }
#endif

}  // namespace witan::cpu

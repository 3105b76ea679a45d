#include "core/ops/cpu/adamw_kernels.h"

namespace witan::cpu::WITAN_ISA {
namespace {

inline float root(float x) { return __builtin_sqrtf(x); }
inline double root(double x) { return __builtin_sqrt(x); }

}  // namespace

// Plain loop: the compiler vectorises it at every level. The four arrays are distinct buffers.
template <class T>
void adamw(const ops::AdamWFactors<T>& factors, T* __restrict w, const T* __restrict dw,
           T* __restrict m, T* __restrict v, std::int64_t count) {
  const ops::AdamWFactors<T> f = factors;
  for (std::int64_t i = 0; i < count; ++i) {
    const T g = f.grad_scale * dw[i];
    const T mean = f.keep_m * m[i] + f.take_m * g;
    const T square = f.keep_v * v[i] + f.take_v * g * g;
    m[i] = mean;
    v[i] = square;
    w[i] = f.keep_w * w[i] - f.step_size * mean / (root(square) * f.root_scale + f.eps);
  }
}

template void adamw(const ops::AdamWFactors<float>&, float*, const float*, float*, float*,
                    std::int64_t);
template void adamw(const ops::AdamWFactors<double>&, double*, const double*, double*, double*,
                    std::int64_t);

}  // namespace witan::cpu::WITAN_ISA

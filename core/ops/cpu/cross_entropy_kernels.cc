#include "core/ops/cpu/cross_entropy_kernels.h"

#include "core/ops/cpu/vec.h"

namespace witan::cpu::WITAN_ISA {
namespace {

template <class T>
T largest(const T* x, std::int64_t n) {
  Vec<T> best = broadcast<T>(-__builtin_inff());
  std::int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) best = max_of(best, load(x + i));
  T result = max_lanes(best);
  for (; i < n; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

// Sum of exp(x - shift), written to `exps` if that is not null. Registers collect a few thousand
// terms at most before they are added up in double.
template <class T>
double sum_exp(const T* x, T shift, T* exps, std::int64_t n) {
  constexpr std::int64_t kChunk = 4096;
  double total = 0.0;
  for (std::int64_t begin = 0; begin < n; begin += kChunk) {
    const std::int64_t count = n - begin < kChunk ? n - begin : kChunk;
    Vec<T> sum = {};
    std::int64_t i = begin;
    for (; i + kLanes<T> <= begin + count; i += kLanes<T>) {
      const Vec<T> e = exp(load(x + i) - shift);
      if (exps != nullptr) store(exps + i, e);
      sum += e;
    }
    if (i < begin + count) {
      const Part part{static_cast<int>(begin + count - i)};
      const Vec<T> e = exp(load(x + i, part) - shift);
      if (exps != nullptr) store(exps + i, e, part);
      for (int lane = 0; lane < part.count; ++lane) total += static_cast<double>(e[lane]);
    }
    total += static_cast<double>(sum_lanes(sum));
  }
  return total;
}

template <class T>
void scale_row(T* x, T factor, std::int64_t n) {
  for_each_vec<T>(n, [&](std::int64_t i, auto part)
                         WITAN_LAMBDA { store(x + i, load(x + i, part) * factor, part); });
}

}  // namespace

template <class T>
void cross_entropy(const T* logits, const std::int32_t* targets, T* loss, T* dlogits,
                   std::int64_t rows, std::int64_t vocab) {
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* z = logits + row * vocab;
    T* dz = dlogits == nullptr ? nullptr : dlogits + row * vocab;
    const std::int32_t target = targets[row];
    if (target < 0) {
      loss[row] = 0;
      for (std::int64_t i = 0; dz != nullptr && i < vocab; ++i) dz[i] = 0;
      continue;
    }
    const T shift = largest(z, vocab);
    const double above = static_cast<double>(shift) - static_cast<double>(z[target]);
    const double sum = sum_exp(z, shift, dz, vocab);
    loss[row] = static_cast<T>(__builtin_log(sum) + above);
    if (dz == nullptr) continue;
    scale_row(dz, static_cast<T>(1.0 / sum), vocab);
    dz[target] -= 1;
  }
}

template void cross_entropy(const float*, const std::int32_t*, float*, float*, std::int64_t,
                            std::int64_t);
template void cross_entropy(const double*, const std::int32_t*, double*, double*, std::int64_t,
                            std::int64_t);

}  // namespace witan::cpu::WITAN_ISA

#include "core/ops/cpu/elementwise_kernels.h"

#include "core/ops/cpu/bfloat16.h"

namespace witan::cpu::WITAN_ISA {

template <class T>
void fill(T* x, std::int64_t count, T value) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = value;
}

template <class From, class To>
void cast(const From* from, To* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i]);
}

template <class T>
void add(const T* a, const T* b, T* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = a[i] + b[i];
}

template <class T>
void scale(T* x, std::int64_t count, T factor) {
  for (std::int64_t i = 0; i < count; ++i) x[i] *= factor;
}

void round_to_bfloat16(float* x, std::int64_t count) {
  for_each_vec<float>(count, [&](std::int64_t i, auto part) WITAN_LAMBDA {
    store(x + i, round_to_bfloat16(load(x + i, part)), part);
  });
}

template <class T>
void add_bias(T* y, const T* bias, std::int64_t rows, std::int64_t n) {
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t j = 0; j < n; ++j) y[row * n + j] += bias[j];
  }
}

namespace {

constexpr std::int64_t kColumns = 32;  // sums that stay in registers

template <class T>
void column_sums(const T* dy, std::int64_t rows, std::int64_t stride, T* dbias,
                 std::int64_t columns) {
  double sums[kColumns] = {};
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t j = 0; j < columns; ++j) sums[j] += static_cast<double>(dy[row * stride + j]);
  }
  for (std::int64_t j = 0; j < columns; ++j) dbias[j] += static_cast<T>(sums[j]);
}

}  // namespace

template <class T>
void bias_backward(const T* dy, std::int64_t rows, std::int64_t stride, T* dbias,
                   std::int64_t columns) {
  std::int64_t j = 0;
  for (; j + kColumns <= columns; j += kColumns) {
    column_sums(dy + j, rows, stride, dbias + j, kColumns);
  }
  if (j < columns) column_sums(dy + j, rows, stride, dbias + j, columns - j);
}

template void fill(float*, std::int64_t, float);
template void fill(double*, std::int64_t, double);
template void fill(std::int32_t*, std::int64_t, std::int32_t);
template void fill(std::int64_t*, std::int64_t, std::int64_t);
template void cast(const float*, double*, std::int64_t);
template void cast(const double*, float*, std::int64_t);
template void add(const float*, const float*, float*, std::int64_t);
template void add(const double*, const double*, double*, std::int64_t);
template void scale(float*, std::int64_t, float);
template void scale(double*, std::int64_t, double);
template void add_bias(float*, const float*, std::int64_t, std::int64_t);
template void add_bias(double*, const double*, std::int64_t, std::int64_t);
template void bias_backward(const float*, std::int64_t, std::int64_t, float*, std::int64_t);
template void bias_backward(const double*, std::int64_t, std::int64_t, double*, std::int64_t);

}  // namespace witan::cpu::WITAN_ISA

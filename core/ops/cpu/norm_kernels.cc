#include "core/ops/cpu/norm_kernels.h"

#include "core/ops/cpu/vec.h"

namespace witan::cpu::WITAN_ISA {
namespace {

// Two chains of additions hide part of the latency of one.
struct Sum {
  VecDouble even = {};
  VecDouble odd = {};
  WITAN_INLINE void add(std::int64_t i, VecDouble v) {
    if ((i / kLanes<double>) % 2 == 0) {
      even += v;
    } else {
      odd += v;
    }
  }
  WITAN_INLINE double total() const { return sum_lanes(even + odd); }
};

template <class T>
double sum_of_squares(const T* x, std::int64_t d) {
  Sum sum;
  for_each_vec<double>(d, [&](std::int64_t i, auto part) WITAN_LAMBDA {
    const VecDouble v = load_wide(x + i, part);
    sum.add(i, v * v);
  });
  return sum.total();
}

template <class T, class Part>
WITAN_INLINE void put(T* dx, Vec<T> value, bool accumulate, Part part) {
  if (accumulate) value += load(dx, part);
  store(dx, value, part);
}

}  // namespace

template <class T>
void rmsnorm(const T* x, const T* w, double eps, T* y, T* rstd, std::int64_t rows, std::int64_t d) {
  for (std::int64_t row = 0; row < rows; ++row, x += d, y += d) {
    const double mean_square = sum_of_squares(x, d) / static_cast<double>(d);
    const T scale = static_cast<T>(1.0 / __builtin_sqrt(mean_square + eps));
    rstd[row] = scale;
    for_each_vec<T>(d, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      store(y + i, load(x + i, part) * scale * load(w + i, part), part);
    });
  }
}

// With g = dy w: dx = rstd (g - x rstd^2 mean(g x)).
template <class T>
void rmsnorm_backward(const T* dy, const T* x, const T* w, const T* rstd, T* dx, bool accumulate_dx,
                      T* dw_partial, std::int64_t rows, std::int64_t d) {
  for (std::int64_t j = 0; j < d; ++j) dw_partial[j] = 0;
  for (std::int64_t row = 0; row < rows; ++row, dy += d, x += d, dx += d) {
    Sum dot;
    for_each_vec<double>(d, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      dot.add(i, load_wide(dy + i, part) * load_wide(w + i, part) * load_wide(x + i, part));
    });
    const T scale = rstd[row];
    const double wide = static_cast<double>(scale);
    const T slope = static_cast<T>(wide * wide * wide * dot.total() / static_cast<double>(d));
    for_each_vec<T>(d, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      const Vec<T> grad = load(dy + i, part);
      const Vec<T> value = load(x + i, part);
      store(dw_partial + i, load(dw_partial + i, part) + grad * (value * scale), part);
      put(dx + i, grad * load(w + i, part) * scale - value * slope, accumulate_dx, part);
    });
  }
}

template <class T>
void layernorm(const T* x, const T* w, const T* b, double eps, T* y, T* mean, T* rstd,
               std::int64_t rows, std::int64_t d) {
  for (std::int64_t row = 0; row < rows; ++row, x += d, y += d) {
    Sum sum;
    for_each_vec<double>(
        d, [&](std::int64_t i, auto part) WITAN_LAMBDA { sum.add(i, load_wide(x + i, part)); });
    const double centre = sum.total() / static_cast<double>(d);
    Sum squares;
    std::int64_t i = 0;
    for (; i + kLanes<double> <= d; i += kLanes<double>) {
      const VecDouble v = load_wide(x + i) - centre;
      squares.add(i, v * v);
    }
    double variance = squares.total();
    for (; i < d; ++i) {
      const double v = static_cast<double>(x[i]) - centre;
      variance += v * v;
    }
    const T scale = static_cast<T>(1.0 / __builtin_sqrt(variance / static_cast<double>(d) + eps));
    const T shift = static_cast<T>(centre);
    mean[row] = shift;
    rstd[row] = scale;
    for_each_vec<T>(d, [&](std::int64_t j, auto part) WITAN_LAMBDA {
      const Vec<T> normed = (load(x + j, part) - shift) * scale;
      store(y + j, normed * load(w + j, part) + load(b + j, part), part);
    });
  }
}

// With g = dy w and n = (x - mean) rstd: dx = rstd (g - mean(g) - n mean(g n)).
template <class T>
void layernorm_backward(const T* dy, const T* x, const T* w, const T* mean, const T* rstd, T* dx,
                        bool accumulate_dx, T* dw_partial, T* db_partial, std::int64_t rows,
                        std::int64_t d) {
  for (std::int64_t j = 0; j < d; ++j) dw_partial[j] = db_partial[j] = 0;
  for (std::int64_t row = 0; row < rows; ++row, dy += d, x += d, dx += d) {
    const double centre = static_cast<double>(mean[row]);
    const double wide = static_cast<double>(rstd[row]);
    Sum grads;
    Sum dots;
    for_each_vec<double>(d, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      const VecDouble grad = load_wide(dy + i, part) * load_wide(w + i, part);
      grads.add(i, grad);
      dots.add(i, grad * ((load_wide(x + i, part) - centre) * wide));
    });
    const T mean_grad = static_cast<T>(grads.total() / static_cast<double>(d));
    const T mean_dot = static_cast<T>(dots.total() / static_cast<double>(d));
    const T shift = mean[row];
    const T scale = rstd[row];
    for_each_vec<T>(d, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      const Vec<T> grad = load(dy + i, part);
      const Vec<T> normed = (load(x + i, part) - shift) * scale;
      store(dw_partial + i, load(dw_partial + i, part) + grad * normed, part);
      store(db_partial + i, load(db_partial + i, part) + grad, part);
      put(dx + i, (grad * load(w + i, part) - mean_grad - normed * mean_dot) * scale, accumulate_dx,
          part);
    });
  }
}

template <class T>
void sum_partials(const T* partials, std::int64_t count, std::int64_t stride, T* sum,
                  std::int64_t columns) {
  for_each_vec<double>(columns, [&](std::int64_t j, auto part) WITAN_LAMBDA {
    VecDouble total = {};
    for (std::int64_t p = 0; p < count; ++p) total += load_wide(partials + p * stride + j, part);
    for (int lane = 0; lane < kLanes<double> && j + lane < columns; ++lane) {
      sum[j + lane] += static_cast<T>(total[lane]);
    }
  });
}

#define WITAN_INSTANTIATE(T)                                                                       \
  template void rmsnorm(const T*, const T*, double, T*, T*, std::int64_t, std::int64_t);           \
  template void rmsnorm_backward(const T*, const T*, const T*, const T*, T*, bool, T*,             \
                                 std::int64_t, std::int64_t);                                      \
  template void layernorm(const T*, const T*, const T*, double, T*, T*, T*, std::int64_t,          \
                          std::int64_t);                                                           \
  template void layernorm_backward(const T*, const T*, const T*, const T*, const T*, T*, bool, T*, \
                                   T*, std::int64_t, std::int64_t);                                \
  template void sum_partials(const T*, std::int64_t, std::int64_t, T*, std::int64_t);
WITAN_INSTANTIATE(float)
WITAN_INSTANTIATE(double)

}  // namespace witan::cpu::WITAN_ISA

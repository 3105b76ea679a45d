#include "core/ops/cpu/router_kernels.h"

#include "core/ops/cpu/vec.h"

namespace witan::cpu::WITAN_ISA {
namespace {

using ops::RouteWeights;
using ops::Score;

// Keeps a token whose scores have all underflowed to 0 from dividing by 0.
constexpr double kTiny = 1e-20;

template <class T>
T largest(const T* x, std::int64_t n) {
  T best = x[0];
  for (std::int64_t i = 1; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

// s = exp(z - shift); returns the sum.
template <class T>
double exp_row(const T* z, T shift, T* s, std::int64_t n) {
  for_each_vec<T>(n, [&](std::int64_t i, auto part)
                         WITAN_LAMBDA { store(s + i, exp(load(z + i, part) - shift), part); });
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(s[i]);
  return sum;
}

template <class T>
double sum_row(const T* x, std::int64_t n) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
  return sum;
}

// The sum of the chosen scores.
template <class T>
double sum_chosen(const T* s, const std::int32_t* chosen, std::int64_t top_k) {
  double sum = 0.0;
  for (std::int64_t j = 0; j < top_k; ++j) sum += static_cast<double>(s[chosen[j]]);
  return sum;
}

// What topk compares: a NaN ranks below everything, so that the order stays total.
template <class T>
WITAN_INLINE T rank_of(const T* s, const T* bias, std::int64_t expert) {
  const T value = bias == nullptr ? s[expert] : s[expert] + bias[expert];
  return value == value ? value : -static_cast<T>(__builtin_inff());
}

// ds += the gradient through the weights of one token.
template <class T>
void add_weight_gradient(RouteWeights kind, double scale, const T* s, const std::int32_t* chosen,
                         const T* weights, const T* dweights, T* ds, std::int64_t top_k) {
  double shift = 0.0;
  double slope = scale;
  if (kind == RouteWeights::kRenormalized) {
    for (std::int64_t j = 0; j < top_k; ++j) {
      shift += static_cast<double>(dweights[j]) * static_cast<double>(weights[j]);
    }
    const double inverse = 1.0 / (sum_chosen(s, chosen, top_k) + kTiny);
    shift *= inverse;
    slope *= inverse;
  }
  for (std::int64_t j = 0; j < top_k; ++j) {
    ds[chosen[j]] += static_cast<T>(slope * static_cast<double>(dweights[j]) - shift);
  }
}

// dz = the gradient through the score of one token, in place of ds.
template <class T>
void score_gradient(Score score, const T* s, T* ds, std::int64_t experts) {
  T mean = 0;
  if (score == Score::kSoftmax) {
    double dot = 0.0;
    for (std::int64_t e = 0; e < experts; ++e) {
      dot += static_cast<double>(ds[e]) * static_cast<double>(s[e]);
    }
    mean = static_cast<T>(dot);
  }
  for_each_vec<T>(experts, [&](std::int64_t e, auto part) WITAN_LAMBDA {
    const Vec<T> value = load(s + e, part);
    const Vec<T> grad = load(ds + e, part);
    const Vec<T> dz = score == Score::kSoftmax ? value * (grad - mean) : grad * value * (1 - value);
    store(ds + e, dz, part);
  });
}

}  // namespace

template <class T>
void router_score(Score score, const T* z, T* s, T* lse, std::int64_t tokens,
                  std::int64_t experts) {
  for (std::int64_t t = 0; t < tokens; ++t, z += experts, s += experts) {
    const T shift = largest(z, experts);
    const double sum = exp_row(z, shift, s, experts);
    lse[t] = static_cast<T>(static_cast<double>(shift) + __builtin_log(sum));
    if (score == Score::kSoftmax) {
      const T inverse = static_cast<T>(1.0 / sum);
      for (std::int64_t e = 0; e < experts; ++e) s[e] *= inverse;
    } else {
      for_each_vec<T>(experts, [&](std::int64_t e, auto part) WITAN_LAMBDA {
        store(s + e, sigmoid(load(z + e, part)), part);
      });
    }
  }
}

template <class T>
void topk(const T* s, const T* bias, std::int32_t* indices, std::int64_t tokens,
          std::int64_t experts, std::int64_t top_k) {
  for (std::int64_t t = 0; t < tokens; ++t, s += experts, indices += top_k) {
    std::int64_t found = 0;
    T last = 0;  // the smallest of those found
    // Insertion into the sorted list. Experts come in ascending order and only a larger score
    // overtakes, so ties stay with the lower index.
    for (std::int64_t expert = 0; expert < experts; ++expert) {
      const T value = rank_of(s, bias, expert);
      if (found == top_k && !(value > last)) continue;
      std::int64_t place = found < top_k ? found++ : top_k - 1;
      for (; place > 0 && value > rank_of(s, bias, indices[place - 1]); --place) {
        indices[place] = indices[place - 1];
      }
      indices[place] = static_cast<std::int32_t>(expert);
      last = rank_of(s, bias, indices[found - 1]);
    }
  }
}

template <class T>
void route_weights(RouteWeights kind, double scale, const T* s, const std::int32_t* indices,
                   T* weights, std::int64_t tokens, std::int64_t experts, std::int64_t top_k) {
  for (std::int64_t t = 0; t < tokens; ++t) {
    const T* row = s + t * experts;
    const std::int32_t* chosen = indices + t * top_k;
    double factor = scale;
    if (kind == RouteWeights::kRenormalized) factor /= sum_chosen(row, chosen, top_k) + kTiny;
    for (std::int64_t j = 0; j < top_k; ++j) {
      weights[t * top_k + j] = static_cast<T>(static_cast<double>(row[chosen[j]]) * factor);
    }
  }
}

template <class T>
void router_backward(Score score, RouteWeights kind, const RouterGradient<T>& g,
                     std::int64_t tokens, std::int64_t experts, std::int64_t top_k) {
  for (std::int64_t t = 0; t < tokens; ++t) {
    const T* s = g.s + t * experts;
    T* dz = g.dz + t * experts;
    for (std::int64_t e = 0; e < experts; ++e) {
      dz[e] = g.ds_extra == nullptr ? T{0} : g.ds_extra[t * experts + e];
    }
    add_weight_gradient(kind, g.scale, s, g.indices + t * top_k, g.weights + t * top_k,
                        g.dweights + t * top_k, dz, top_k);
    score_gradient(score, s, dz, experts);
    if (g.z_loss_scale == 0.0) continue;
    const T lse = g.lse[t];
    const T slope = static_cast<T>(g.z_loss_scale * static_cast<double>(lse));
    for_each_vec<T>(experts, [&](std::int64_t e, auto part) WITAN_LAMBDA {
      const Vec<T> softmax = exp(load(g.z + t * experts + e, part) - lse);
      store(dz + e, load(dz + e, part) + softmax * slope, part);
    });
  }
}

template <class T>
void probability_sums(Score score, const T* s, double* partial, std::int64_t tokens,
                      std::int64_t experts) {
  for (std::int64_t e = 0; e < experts; ++e) partial[e] = 0.0;
  for (std::int64_t t = 0; t < tokens; ++t, s += experts) {
    const double factor = score == Score::kSoftmax ? 1.0 : 1.0 / (sum_row(s, experts) + kTiny);
    for (std::int64_t e = 0; e < experts; ++e) partial[e] += static_cast<double>(s[e]) * factor;
  }
}

template <class T>
void probability_backward(Score score, const T* s, const T* coefficient, T* ds, std::int64_t tokens,
                          std::int64_t experts) {
  for (std::int64_t t = 0; t < tokens; ++t, s += experts, ds += experts) {
    if (score == Score::kSoftmax) {
      for (std::int64_t e = 0; e < experts; ++e) ds[e] += coefficient[e];
      continue;
    }
    // p_j = s_j / sum: the gradient is (c_i - sum_j c_j p_j) / sum.
    const double inverse = 1.0 / (sum_row(s, experts) + kTiny);
    double mean = 0.0;
    for (std::int64_t e = 0; e < experts; ++e) {
      mean += static_cast<double>(coefficient[e]) * static_cast<double>(s[e]) * inverse;
    }
    for (std::int64_t e = 0; e < experts; ++e) {
      ds[e] += static_cast<T>((static_cast<double>(coefficient[e]) - mean) * inverse);
    }
  }
}

#define WITAN_INSTANTIATE(T)                                                                       \
  template void router_score(Score, const T*, T*, T*, std::int64_t, std::int64_t);                 \
  template void topk(const T*, const T*, std::int32_t*, std::int64_t, std::int64_t, std::int64_t); \
  template void route_weights(RouteWeights, double, const T*, const std::int32_t*, T*,             \
                              std::int64_t, std::int64_t, std::int64_t);                           \
  template void router_backward(Score, RouteWeights, const RouterGradient<T>&, std::int64_t,       \
                                std::int64_t, std::int64_t);                                       \
  template void probability_sums(Score, const T*, double*, std::int64_t, std::int64_t);            \
  template void probability_backward(Score, const T*, const T*, T*, std::int64_t, std::int64_t);
WITAN_INSTANTIATE(float)
WITAN_INSTANTIATE(double)

}  // namespace witan::cpu::WITAN_ISA

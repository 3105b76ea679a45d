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
  for (std::int64_t j = 0; j < top_k; ++j) {
    if (chosen[j] >= 0) sum += static_cast<double>(s[chosen[j]]);
  }
  return sum;
}

// What topk compares: a NaN ranks below everything, so that the order stays total.
template <class T>
WITAN_INLINE T rank_of(const T* s, const T* bias, std::int64_t expert) {
  const T value = bias == nullptr ? s[expert] : s[expert] + bias[expert];
  return value == value ? value : -static_cast<T>(__builtin_inff());
}

// The best experts of one token so far, sorted into `indices`. Experts are offered in ascending
// order and only a larger score overtakes, so ties stay with the lower index.
template <class T>
class SortedChoices {
 public:
  SortedChoices(const T* s, const T* bias, std::int32_t* indices, std::int64_t top_k)
      : s_(s), bias_(bias), indices_(indices), top_k_(top_k) {}

  WITAN_INLINE void offer(std::int64_t expert) {
    const T value = rank_of(s_, bias_, expert);
    if (found_ == top_k_ && !(value > last_)) return;
    std::int64_t place = found_ < top_k_ ? found_++ : top_k_ - 1;
    for (; place > 0 && value > rank_of(s_, bias_, indices_[place - 1]); --place) {
      indices_[place] = indices_[place - 1];
    }
    indices_[place] = static_cast<std::int32_t>(expert);
    last_ = rank_of(s_, bias_, indices_[found_ - 1]);
  }

 private:
  const T* s_;
  const T* bias_;
  std::int32_t* indices_;
  std::int64_t top_k_;
  std::int64_t found_ = 0;
  T last_ = 0;  // the smallest of those found
};

// The sum of the `best` largest values of a group's experts.
template <class T>
T group_score(const ops::ExpertGroups& groups, const T* s, const T* bias, std::int64_t size,
              std::int64_t group) {
  std::int32_t best[ops::kMostGroupBest];
  SortedChoices<T> choices(s, bias, best, groups.best);
  for (std::int64_t e = group * size; e < (group + 1) * size; ++e) choices.offer(e);
  T sum = 0;
  for (std::int64_t i = 0; i < groups.best; ++i) sum += rank_of(s, bias, best[i]);
  return sum;
}

// The weight of choice j before it is scaled. Scores are at most a few units: no shift is needed
// for their exponentials.
template <class T>
double plain_weight(RouteWeights kind, const T* s, const std::int32_t* chosen, std::int64_t j) {
  if (kind == RouteWeights::kUniform) return 1.0;
  const auto score = static_cast<double>(s[chosen[j]]);
  return kind == RouteWeights::kSoftmaxOfScores ? __builtin_exp(score) : score;
}

template <class T>
double sum_of_weights(RouteWeights kind, const T* s, const std::int32_t* chosen,
                      std::int64_t top_k) {
  double sum = 0.0;
  for (std::int64_t j = 0; j < top_k; ++j) {
    if (chosen[j] >= 0) sum += plain_weight(kind, s, chosen, j);
  }
  return sum > 0.0 ? sum : 1.0;
}

// ds += the gradient through the weights of one token.
template <class T>
void add_weight_gradient(RouteWeights kind, double scale, const T* s, const std::int32_t* chosen,
                         const T* weights, const T* dweights, T* ds, std::int64_t top_k) {
  if (kind == RouteWeights::kUniform) return;
  double dot = 0.0;
  for (std::int64_t j = 0; j < top_k; ++j) {
    if (chosen[j] >= 0) dot += static_cast<double>(dweights[j]) * static_cast<double>(weights[j]);
  }
  const double inverse = 1.0 / (sum_chosen(s, chosen, top_k) + kTiny);
  for (std::int64_t j = 0; j < top_k; ++j) {
    if (chosen[j] < 0) continue;
    const double dw = static_cast<double>(dweights[j]);
    double gradient = scale * dw;
    if (kind == RouteWeights::kRenormalized) gradient = (gradient - dot) * inverse;
    if (kind == RouteWeights::kSoftmaxOfScores) {
      gradient = static_cast<double>(weights[j]) * (dw - dot / scale);
    }
    ds[chosen[j]] += static_cast<T>(gradient);
  }
}

// ds/dz of sqrt(softplus(z)), from s: sigmoid(z) = 1 - exp(-s^2).
template <class T>
T sqrt_softplus_slope(T s) {
  const double value = static_cast<double>(s);
  return value > 0.0 ? static_cast<T>(-__builtin_expm1(-value * value) / (2.0 * value)) : T{0};
}

// dz = the gradient through the score of one token, in place of ds.
template <class T>
void score_gradient(Score score, const T* s, T* ds, std::int64_t experts) {
  if (score == Score::kSqrtSoftplus) {
    for (std::int64_t e = 0; e < experts; ++e) ds[e] *= sqrt_softplus_slope(s[e]);
    return;
  }
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
    } else if (score == Score::kSqrtSoftplus) {
      for (std::int64_t e = 0; e < experts; ++e) {
        const auto logit = static_cast<double>(z[e]);
        const double softplus = (logit > 0.0 ? logit : 0.0) +
                                __builtin_log1p(__builtin_exp(logit > 0.0 ? -logit : logit));
        s[e] = static_cast<T>(__builtin_sqrt(softplus));
      }
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
    SortedChoices<T> choices(s, bias, indices, top_k);
    for (std::int64_t expert = 0; expert < experts; ++expert) choices.offer(expert);
  }
}

template <class T>
void group_topk(const ops::ExpertGroups& groups, const T* s, const T* bias, std::int32_t* indices,
                std::int64_t tokens, std::int64_t experts, std::int64_t top_k) {
  const std::int64_t size = experts / groups.groups;
  for (std::int64_t t = 0; t < tokens; ++t, s += experts, indices += top_k) {
    T scores[ops::kMostGroups];
    for (std::int64_t g = 0; g < groups.groups; ++g) {
      scores[g] = group_score(groups, s, bias, size, g);
    }
    std::int32_t kept[ops::kMostGroups];
    SortedChoices<T> best(scores, nullptr, kept, groups.keep);
    for (std::int64_t g = 0; g < groups.groups; ++g) best.offer(g);
    bool open[ops::kMostGroups] = {};
    for (std::int64_t i = 0; i < groups.keep; ++i) open[kept[i]] = true;
    SortedChoices<T> choices(s, bias, indices, top_k);
    for (std::int64_t group = 0; group < groups.groups; ++group) {
      if (!open[group]) continue;
      for (std::int64_t e = group * size; e < (group + 1) * size; ++e) choices.offer(e);
    }
  }
}

template <class T>
void keep_mass(double mass, const T* s, std::int32_t* indices, std::int64_t tokens,
               std::int64_t experts, std::int64_t top_k) {
  for (std::int64_t t = 0; t < tokens; ++t, s += experts, indices += top_k) {
    const double enough = mass * sum_row(s, experts);
    double kept = 0.0;
    for (std::int64_t j = 0; j < top_k; ++j) {
      if (j > 0 && kept >= enough) {
        indices[j] = ops::kNoChoice;
      } else {
        kept += static_cast<double>(s[indices[j]]);
      }
    }
  }
}

template <class T>
void route_weights(RouteWeights kind, double scale, const T* s, const std::int32_t* indices,
                   T* weights, std::int64_t tokens, std::int64_t experts, std::int64_t top_k) {
  for (std::int64_t t = 0; t < tokens; ++t) {
    const T* row = s + t * experts;
    const std::int32_t* chosen = indices + t * top_k;
    T* w = weights + t * top_k;
    double factor = scale;
    if (kind == RouteWeights::kRenormalized) factor /= sum_chosen(row, chosen, top_k) + kTiny;
    if (kind == RouteWeights::kUniform || kind == RouteWeights::kSoftmaxOfScores) {
      factor /= sum_of_weights(kind, row, chosen, top_k);
    }
    for (std::int64_t j = 0; j < top_k; ++j) {
      w[j] = chosen[j] < 0 ? T{0} : static_cast<T>(plain_weight(kind, row, chosen, j) * factor);
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
  template void group_topk(const ops::ExpertGroups&, const T*, const T*, std::int32_t*,            \
                           std::int64_t, std::int64_t, std::int64_t);                              \
  template void keep_mass(double, const T*, std::int32_t*, std::int64_t, std::int64_t,             \
                          std::int64_t);                                                           \
  template void route_weights(RouteWeights, double, const T*, const std::int32_t*, T*,             \
                              std::int64_t, std::int64_t, std::int64_t);                           \
  template void router_backward(Score, RouteWeights, const RouterGradient<T>&, std::int64_t,       \
                                std::int64_t, std::int64_t);                                       \
  template void probability_sums(Score, const T*, double*, std::int64_t, std::int64_t);            \
  template void probability_backward(Score, const T*, const T*, T*, std::int64_t, std::int64_t);
WITAN_INSTANTIATE(float)
WITAN_INSTANTIATE(double)

}  // namespace witan::cpu::WITAN_ISA

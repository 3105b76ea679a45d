// hierarchical: a first gate chooses groups, a second one the experts of each chosen group (Shazeer
// et al. 2017, appendix B, without its noise). With u = x W_group^T and v = x W^T, the logits
//   z_i = u_g + v_i - logsumexp of v over the group g of expert i
// have softmax(z)_i = softmax(u)_g * softmax(v within g)_i, and logsumexp of z over a group is its
// u_g again: so z says all of both gates, and losses and masks read it as any other router's. Ties
// go to the lower index.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/model/router.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();

// logsumexp of n values; minus infinity if all of them are.
template <class T>
double logsumexp(const T* x, std::int64_t n) {
  const auto largest = static_cast<double>(*std::max_element(x, x + n));
  if (largest == kNothing) return kNothing;
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[i]) - largest);
  return largest + std::log(sum);
}

// The `count` largest of values(0) .. values(n - 1), in descending order.
template <class Value>
void largest(std::int64_t n, std::int64_t count, const Value& value,
             std::vector<std::int64_t>& order) {
  order.resize(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](std::int64_t a, std::int64_t b) {
                      return value(a) != value(b) ? value(a) > value(b) : a < b;
                    });
  order.resize(static_cast<std::size_t>(count));
}

// One token's weights and what their gradients need.
struct Gates {
  std::vector<double>
      group;  // [topk_group] softmax of u over the chosen groups that keep an expert
  std::vector<double> expert;  // [topk_group, k] softmax of z over the chosen experts of each
};

class HierarchicalRouter final : public Router {
 public:
  HierarchicalRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place),
        k_(config.hierarchical().k()),
        groups_(config.hierarchical().n_group()),
        chosen_groups_(config.hierarchical().topk_group()),
        size_(place.experts / groups_) {}

  std::int64_t top_k() const override { return chosen_groups_ * k_; }

 protected:
  void finish_logits(const Context& ctx, const RouterParams& params, const Batch&,
                     const RouterArenas& arenas, RouterSaved& saved) const override {
    const TensorView u =
        arenas.decision.allocate({saved.z.rows(), groups_}, saved.z.dtype, "router");
    saved.group_z = u;
    product(ctx, saved.x, params.group_weight, {}, u, arenas.scratch);
    dispatch_float(u.dtype, "hierarchical", [&](auto zero) {
      using T = decltype(zero);
      const T* of_group = u.as<T>();
      T* z = saved.z.as<T>();
#pragma omp parallel for schedule(static)
      for (std::int64_t i = 0; i < u.size(); ++i) {
        T* v = z + i * size_;
        const double shift = static_cast<double>(of_group[i]) - logsumexp(v, size_);
        for (std::int64_t e = 0; e < size_; ++e) {
          v[e] = static_cast<T>(static_cast<double>(v[e]) + shift);
        }
      }
    });
  }

  void select(const Context&, const SelectionInput& in, const TensorView& indices) const override {
    dispatch_float(in.z.dtype, "hierarchical", [&](auto zero) {
      using T = decltype(zero);
      const T* z = in.z.as<T>();
      const T* u = in.group_z.as<T>();
      auto* index = indices.as<std::int32_t>();
      std::vector<std::int64_t> groups, experts;
      for (std::int64_t t = 0; t < in.z.rows(); ++t, z += in.z.cols(), u += groups_) {
        const auto gate = [&](std::int64_t g) {  // a tag has a whole group or nothing of it
          return z[g * size_] == kNothing ? kNothing : static_cast<double>(u[g]);
        };
        largest(groups_, chosen_groups_, gate, groups);
        for (const std::int64_t g : groups) {
          largest(
              size_, k_, [&](std::int64_t e) { return z[g * size_ + e]; }, experts);
          for (const std::int64_t e : experts) *index++ = static_cast<std::int32_t>(g * size_ + e);
        }
      }
    });
  }

  bool weighs_itself() const override { return true; }

  void weigh(const RouterSaved& saved, const TensorView& indices,
             const TensorView& weights) const override {
    dispatch_float(weights.dtype, "hierarchical", [&](auto zero) {
      using T = decltype(zero);
      Gates gates;
      for (std::int64_t t = 0; t < weights.rows(); ++t) {
        open_gates(saved.z.as<T>() + t * saved.z.cols(), indices.as<std::int32_t>() + t * top_k(),
                   gates);
        T* w = weights.as<T>() + t * top_k();
        for (std::int64_t j = 0; j < top_k(); ++j) {
          w[j] = static_cast<T>(scale() * gates.group[static_cast<std::size_t>(j / k_)] *
                                gates.expert[static_cast<std::size_t>(j)]);
        }
      }
    });
  }

  void weigh_backward(const RouterSaved& saved, const TensorView& indices,
                      const TensorView& dweights, const TensorView& dz) const override {
    dispatch_float(dz.dtype, "hierarchical", [&](auto zero) {
      using T = decltype(zero);
      Gates gates;
      for (std::int64_t t = 0; t < dz.rows(); ++t) {
        const T* z = saved.z.as<T>() + t * dz.cols();
        const std::int32_t* chosen = indices.as<std::int32_t>() + t * top_k();
        open_gates(z, chosen, gates);
        token_backward(z, chosen, gates, dweights.as<T>() + t * top_k(),
                       dz.as<T>() + t * dz.cols());
      }
    });
  }

  // dz of the combined logits -> du, of which u = x W_group^T, and dv in its place.
  void logits_backward(const Context& ctx, const RouterParams& params, const Batch&,
                       const RouterSaved& saved, const TensorView& dz, const TensorView&,
                       const TensorView& dx, Arena& scratch, Arena& host_scratch) const override {
    ArenaScope scope(host_scratch);
    const TensorView du = host_scratch.allocate({dz.rows(), groups_}, dz.dtype, "router backward");
    dispatch_float(dz.dtype, "hierarchical", [&](auto zero) {
      using T = decltype(zero);
#pragma omp parallel for schedule(static)
      for (std::int64_t i = 0; i < du.size(); ++i) {
        const T* z = saved.z.as<T>() + i * size_;
        T* gradient = dz.as<T>() + i * size_;
        const double sum = std::accumulate(gradient, gradient + size_, 0.0);
        du.as<T>()[i] = static_cast<T>(sum);
        const double lse = logsumexp(z, size_);
        if (lse == kNothing) continue;  // no token of this tag
        for (std::int64_t e = 0; e < size_; ++e) {
          gradient[e] -= static_cast<T>(sum * std::exp(static_cast<double>(z[e]) - lse));
        }
      }
    });
    product_backward(ctx, du, saved.x, params.group_weight, params.dgroup_weight, {}, dx, scratch);
  }

 private:
  // Choices j k .. (j + 1) k of `chosen` are those of the j-th group; capacity may have taken some,
  // or a whole group.
  template <class T>
  void open_gates(const T* z, const std::int32_t* chosen, Gates& gates) const {
    gates.group.assign(static_cast<std::size_t>(chosen_groups_), kNothing);
    gates.expert.assign(static_cast<std::size_t>(top_k()), kNothing);
    for (std::int64_t j = 0; j < top_k(); ++j) {
      if (chosen[j] == ops::kNoChoice) continue;
      const std::int64_t group = chosen[j] / size_;
      gates.expert[static_cast<std::size_t>(j)] = static_cast<double>(z[chosen[j]]);
      gates.group[static_cast<std::size_t>(j / k_)] = logsumexp(z + group * size_, size_);
    }
    softmax(gates.group.data(), chosen_groups_);
    for (std::int64_t j = 0; j < chosen_groups_; ++j) softmax(gates.expert.data() + j * k_, k_);
  }

  // In place; zeros if all are minus infinity.
  static void softmax(double* x, std::int64_t n) {
    const double lse = logsumexp(x, n);
    for (std::int64_t i = 0; i < n; ++i) x[i] = lse == kNothing ? 0.0 : std::exp(x[i] - lse);
  }

  // dz += the gradient through the weights of one token: w = scale * group * expert.
  template <class T>
  void token_backward(const T* z, const std::int32_t* chosen, const Gates& gates, const T* dweights,
                      T* dz) const {
    std::vector<double> dgroup(gates.group.size(), 0.0);  // of each gate's value
    double mean = 0.0;                                    // of dgroup, weighted by the gates
    for (std::size_t j = 0; j < gates.group.size(); ++j) {
      for (std::size_t i = j * at(k_); i < (j + 1) * at(k_); ++i) {
        if (chosen[i] == ops::kNoChoice) continue;
        dgroup[j] += scale() * static_cast<double>(dweights[i]) * gates.expert[i];
      }
      mean += dgroup[j] * gates.group[j];
    }
    for (std::size_t j = 0; j < gates.group.size(); ++j) {
      const std::int32_t* first = chosen + j * at(k_);
      const auto* some = std::find_if(first, first + k_, [](auto e) { return e >= 0; });
      if (some == first + k_) continue;
      for (std::size_t i = j * at(k_); i < (j + 1) * at(k_); ++i) {
        if (chosen[i] == ops::kNoChoice) continue;
        const double dexpert = gates.group[j] * scale() * static_cast<double>(dweights[i]);
        dz[chosen[i]] += static_cast<T>(gates.expert[i] * (dexpert - gates.group[j] * dgroup[j]));
      }
      // u_g is the logsumexp of z over the whole group.
      const std::int64_t begin = *some / size_ * size_;
      const double lse = logsumexp(z + begin, size_);
      const double du = gates.group[j] * (dgroup[j] - mean);
      for (std::int64_t e = begin; e < begin + size_; ++e) {
        dz[e] += static_cast<T>(du * std::exp(static_cast<double>(z[e]) - lse));
      }
    }
  }

  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

  std::int64_t k_, groups_, chosen_groups_;
  std::int64_t size_;  // experts of a group
};

}  // namespace

std::unique_ptr<Router> make_hierarchical_router(const configs::RouterConfig& config,
                                                 const RouterPlace& place) {
  return std::make_unique<HierarchicalRouter>(config, place);
}

}  // namespace witan

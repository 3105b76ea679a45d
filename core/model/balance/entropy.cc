// entropy: coefficient * mean over tokens of -sum_i p_i log p_i, p = s / sum s (Huang et al. 2024):
// a sharper router needs fewer experts to reach the mass of top_p.
#include <cmath>

#include "core/model/balance/balancer.h"

namespace witan {
namespace {

class EntropyBalancer final : public Balancer {
 public:
  explicit EntropyBalancer(const configs::EntropyLoss& config) : config_(config) {}

  const char* name() const override { return "entropy"; }
  bool reads_router() const override { return true; }

  double backward(const Context& ctx, const BalanceInput& input, RouterGradient& gradient,
                  Arena& scratch) override {
    const TensorView& s = input.router.s;
    if (s.rows() == 0) return 0.0;
    open_gradient(ctx, s, scratch, gradient.ds);
    const double coefficient = scheduled(config_.coefficient(), config_.schedule(), input.progress);
    double value = 0.0;
    dispatch_float(s.dtype, "entropy", [&](auto zero) {
      using T = decltype(zero);
      const std::int64_t experts = s.cols();
      for (std::int64_t t = 0; t < s.rows(); ++t) {
        const T* row = s.as<T>() + t * experts;
        T* ds = gradient.ds.as<T>() + t * experts;
        double sum = 1e-20;
        for (std::int64_t e = 0; e < experts; ++e) sum += static_cast<double>(row[e]);
        double entropy = 0.0;
        for (std::int64_t e = 0; e < experts; ++e) entropy -= plogp(row[e], sum);
        // d/ds_i = -(log p_i + entropy) / sum
        for (std::int64_t e = 0; e < experts; ++e) {
          const double p = static_cast<double>(row[e]) / sum;
          const double slope = p > 0.0 ? -(std::log(p) + entropy) / sum : 0.0;
          ds[e] += static_cast<T>(coefficient * input.gradient_scale * slope);
        }
        value += coefficient * entropy;
      }
    });
    return value;
  }

 private:
  template <class T>
  static double plogp(T score, double sum) {
    const double p = static_cast<double>(score) / sum;
    return p > 0.0 ? p * std::log(p) : 0.0;
  }

  configs::EntropyLoss config_;
};

}  // namespace

std::unique_ptr<Balancer> make_entropy(const configs::BalancerConfig& config) {
  return std::make_unique<EntropyBalancer>(config.entropy());
}

}  // namespace witan

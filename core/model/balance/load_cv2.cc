// load_cv2: coefficient * CV^2 over experts of the smooth load: the sum over tokens of the
// probability that fresh noise keeps an expert's logit above the token's
// threshold. Fixed noise (V-MoE): the threshold is the k-th largest noisy logit. Learned noise
// (Shazeer et al. 2017): the k-th largest of the others. Without noise, in evaluation, it is 0.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "core/model/balance/balancer.h"

namespace witan {
namespace {

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
template <class T>
constexpr T kMasked = -std::numeric_limits<T>::infinity();

double normal_density(double x) {
  return std::exp(-0.5 * x * x) / std::sqrt(2.0 * std::numbers::pi);
}

class LoadCv2Balancer final : public Balancer {
 public:
  explicit LoadCv2Balancer(const configs::LoadCv2& config) : config_(config) {}

  const char* name() const override { return "load_cv2"; }
  bool reads_router() const override { return true; }

  double backward(const Context& ctx, const BalanceInput& input, RouterGradient& gradient,
                  Arena& scratch) override {
    const RouterSaved& router = input.router;
    if (router.noise_scale.shape.rank() == 0) return 0.0;
    open_gradient(ctx, router.z, scratch, gradient.dz);
    open_gradient(ctx, router.z, scratch, gradient.dclean_z);
    open_gradient(ctx, router.z, scratch, gradient.dnoise_scale);
    const double coefficient = scheduled(config_.coefficient(), config_.schedule(), input.progress);
    const bool global = config_.scope() == configs::LoadCv2::GLOBAL_MICRO_BATCH;
    const std::int64_t tokens = router.s.rows();
    double value = 0.0;
    dispatch_float(router.z.dtype, "load_cv2", [&](auto zero) {
      using T = decltype(zero);
      std::vector<double>& load = cv2_.begin(input.experts);
      each<T>(
          router,
          [&](std::int64_t, std::size_t e, std::int64_t, double x, double) {
            load[e] += normal_cdf(x);
          },
          [&](std::size_t e) { load[e] += 1.0; });
      value = coefficient * static_cast<double>(tokens) *
              cv2_.finish(tokens, global ? input.all_ranks : nullptr);
      T* dz = gradient.dz.as<T>();
      T* dclean = gradient.dclean_z.as<T>();
      T* dscale = gradient.dnoise_scale.as<T>();
      each<T>(
          router,
          [&](std::int64_t i, std::size_t e, std::int64_t threshold, double x, double noise_scale) {
            const double dx =
                coefficient * input.gradient_scale * cv2_.gradient(e) * normal_density(x);
            dclean[i] += static_cast<T>(dx / noise_scale);
            dz[threshold] -= static_cast<T>(dx / noise_scale);
            dscale[i] -= static_cast<T>(dx * x / noise_scale);
          },
          [](std::size_t) {});
    });
    return value;
  }

 private:
  // visit(i, expert, index of the threshold's noisy logit, x, noise scale) for every logit i: the
  // probability is that of a standard normal below x. always(expert) where it is 1. Logits that the
  // token's tag forbids are passed over.
  template <class T, class Visit, class Always>
  void each(const RouterSaved& router, const Visit& visit, const Always& always) {
    const std::int64_t experts = router.z.cols();
    const std::int64_t k = std::min(router.indices.cols(), experts);
    const bool learned = !router.noise.empty();
    const T* noisy = router.z.as<T>();
    const T* clean = router.clean_z.as<T>();
    const T* scale = router.noise_scale.as<T>();
    order_.resize(static_cast<std::size_t>(experts));
    for (std::int64_t t = 0; t < router.z.rows(); ++t) {
      const std::int64_t first = t * experts;
      for (std::int64_t e = 0; e < experts; ++e) order_[static_cast<std::size_t>(e)] = first + e;
      std::sort(order_.begin(), order_.end(), [&](std::int64_t a, std::int64_t b) {
        return noisy[a] != noisy[b] ? noisy[a] > noisy[b] : a < b;
      });
      std::int64_t allowed = experts;
      while (allowed > k && noisy[order_[static_cast<std::size_t>(allowed - 1)]] == kMasked<T>) {
        --allowed;
      }
      for (std::int64_t place = 0; place < allowed; ++place) {
        const std::int64_t i = order_[static_cast<std::size_t>(place)];
        // Without itself, one of the first k looks at the next one.
        const std::int64_t other = learned && place < k ? k : k - 1;
        if (other >= allowed) {  // all are chosen whatever the noise
          always(static_cast<std::size_t>(i - first));
          continue;
        }
        const std::int64_t threshold = order_[static_cast<std::size_t>(other)];
        const auto size = static_cast<double>(scale[i]);
        const double x =
            (static_cast<double>(clean[i]) - static_cast<double>(noisy[threshold])) / size;
        visit(i, static_cast<std::size_t>(i - first), threshold, x, size);
      }
    }
  }

  configs::LoadCv2 config_;
  Cv2OfSums cv2_;
  std::vector<std::int64_t> order_;
};

}  // namespace

std::unique_ptr<Balancer> make_load_cv2(const configs::BalancerConfig& config) {
  return std::make_unique<LoadCv2Balancer>(config.load_cv2());
}

}  // namespace witan

// sinkhorn: in training, the k largest of exp(z) after its rows and columns have been normalised in
// turn over one rank's micro-batch (S-BASE, Clark et al. 2022); weights come from the plain scores.
// In evaluation top_k of the scores. A token's choice depends on the whole micro-batch.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/model/router.h"
#include "core/ops/topk.h"
#include "core/tensor/tensor.h"

namespace witan {
namespace {

// p [tokens, experts] = exp(z - row maximum), then columns to sum tokens / experts and rows to sum
// 1, in turn.
void sinkhorn(const TensorView& z, std::int64_t iterations, std::vector<double>& p) {
  const std::int64_t tokens = z.rows();
  const std::int64_t experts = z.cols();
  p.resize(static_cast<std::size_t>(z.size()));
  dispatch_float(z.dtype, "sinkhorn", [&](auto zero) {
    const auto* logits = z.as<decltype(zero)>();
    for (std::int64_t t = 0; t < tokens; ++t) {
      const auto* row = logits + t * experts;
      const auto shift = static_cast<double>(*std::max_element(row, row + experts));
      for (std::int64_t e = 0; e < experts; ++e) {
        p[static_cast<std::size_t>(t * experts + e)] =
            std::exp(static_cast<double>(row[e]) - shift);
      }
    }
  });
  constexpr double kTiny = 1e-30;
  std::vector<double> sums(static_cast<std::size_t>(experts));
  for (std::int64_t i = 0; i < iterations; ++i) {
    std::fill(sums.begin(), sums.end(), kTiny);
    for (std::size_t j = 0; j < p.size(); ++j) sums[j % sums.size()] += p[j];
    const double share = static_cast<double>(tokens) / static_cast<double>(experts);
    for (std::size_t j = 0; j < p.size(); ++j) p[j] *= share / sums[j % sums.size()];
    for (auto row = p.begin(); row != p.end(); row += experts) {
      double sum = kTiny;
      for (auto value = row; value != row + experts; ++value) sum += *value;
      for (auto value = row; value != row + experts; ++value) *value /= sum;
    }
  }
}

class SinkhornRouter final : public Router {
 public:
  SinkhornRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place), config_(config.sinkhorn()) {}

  std::int64_t top_k() const override { return config_.k(); }

 protected:
  void select(const Context& ctx, const SelectionInput& in,
              const TensorView& indices) const override {
    if (!in.batch.training) return ops::topk(ctx, in.ranked, {}, indices);
    sinkhorn(in.z, config_.iterations(), normalised_);
    const TensorView p = view_of(normalised_.data(), in.z.shape);
    mask_like(in.z, p);  // what has underflowed to 0 still ranks above what is not allowed
    ops::topk(ctx, p, {}, indices);
  }

 private:
  configs::SinkhornSelection config_;
  mutable std::vector<double> normalised_;  // keeps its capacity
};

}  // namespace

std::unique_ptr<Router> make_sinkhorn_router(const configs::RouterConfig& config,
                                             const RouterPlace& place) {
  return std::make_unique<SinkhornRouter>(config, place);
}

}  // namespace witan

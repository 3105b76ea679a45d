// The next token from a model's logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace witan {

struct SamplingOptions {
  bool greedy = false;       // the token with the largest logit; nothing below is used
  double temperature = 1.0;  // divides the logits; above 0
  std::int64_t top_k = 0;    // only the k most likely tokens; 0: all
  double top_p = 1.0;  // only the fewest tokens that have at least this share of the probability
                       // (Holtzman et al. 2020)
  std::uint64_t seed = 1;
};

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options) {}

  // First top_k, then top_p on what is left. Among equal logits the lower id comes first. `uniform`
  // in [0, 1).
  std::int32_t operator()(std::span<const double> logits, double uniform);

  const SamplingOptions& options() const { return options_; }

 private:
  SamplingOptions options_;
  std::vector<std::int32_t> order_;
  std::vector<double> weights_;
};

}  // namespace witan

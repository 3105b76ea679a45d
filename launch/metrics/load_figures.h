// Figures of how evenly the experts of a layer are loaded (docs/numerics.md, section "Metrics").
#pragma once

#include <cstdint>
#include <span>

namespace witan {

struct LoadFigures {
  double max_vio = 0.0;    // max n_i / mean(n) - 1 (Wang et al. 2024)
  double cv = 0.0;         // coefficient of variation of n
  double entropy = 0.0;    // H(load) / log E: 1 is even
  std::int64_t dead = 0;   // experts with n_i = 0
  double count_mse = 0.0;  // mean of (n_i - mean(n))^2
  double rank_max_vio =
      0.0;  // max over expert-parallel ranks of their rows / mean - 1: what the step time waits for
};

// counts [experts]; all zero gives zeros and dead = experts. Experts are dealt to `ranks` in equal
// consecutive parts.
LoadFigures load_figures(std::span<const std::int64_t> counts, int ranks = 1);

}  // namespace witan

#include "launch/metrics/load_figures.h"

#include <algorithm>
#include <cmath>

namespace witan {

LoadFigures load_figures(std::span<const std::int64_t> counts, int ranks) {
  LoadFigures figures;
  const auto experts = static_cast<double>(counts.size());
  double total = 0.0;
  for (const std::int64_t n : counts) {
    total += static_cast<double>(n);
    figures.dead += n == 0 ? 1 : 0;
  }
  if (total == 0.0) return figures;
  const double mean = total / experts;
  double largest = 0.0;
  for (const std::int64_t n : counts) {
    const double gap = static_cast<double>(n) - mean;
    figures.count_mse += gap * gap / experts;
    largest = std::max(largest, static_cast<double>(n));
    const double share = static_cast<double>(n) / total;
    if (n > 0 && counts.size() > 1) figures.entropy -= share * std::log(share) / std::log(experts);
  }
  figures.max_vio = largest / mean - 1.0;
  figures.cv = std::sqrt(figures.count_mse) / mean;
  const std::size_t per_rank = counts.size() / static_cast<std::size_t>(ranks);
  double busiest = 0.0;
  for (std::size_t begin = 0; begin + per_rank <= counts.size(); begin += per_rank) {
    double rows = 0.0;
    for (std::size_t i = begin; i < begin + per_rank; ++i) rows += static_cast<double>(counts[i]);
    busiest = std::max(busiest, rows);
  }
  figures.rank_max_vio = busiest / (total / ranks) - 1.0;
  return figures;
}

}  // namespace witan

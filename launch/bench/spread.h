// Median and quartiles of repeated timings.
#pragma once

#include <cstdint>
#include <vector>

namespace witan {

struct Spread {
  double median = 0.0;
  double low = 0.0;  // first and third quartile
  double high = 0.0;
  std::int64_t count = 0;
};

// At least one sample.
Spread spread_of(std::vector<double> samples);

}  // namespace witan

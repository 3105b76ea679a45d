// Which dataset the n-th sample comes from: a fixed cycle of slots, so that the answer takes O(1)
// and the proportions hold over every stretch of samples, not only on average.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace witan {

class Blend {
 public:
  // `names` appear in errors only. UserError for a weight too small to get a slot.
  Blend(const std::vector<std::string>& names, const std::vector<double>& weights);

  struct Draw {
    int dataset;
    std::int64_t index;  // how many earlier samples came from the same dataset
  };
  Draw operator()(std::int64_t n) const;

  std::int64_t cycle() const { return static_cast<std::int64_t>(slots_.size()); }

 private:
  struct Slot {
    std::int32_t dataset;
    std::int32_t index;  // within the cycle
  };
  std::vector<Slot> slots_;
  std::vector<std::int64_t> per_cycle_;  // slots of each dataset
};

}  // namespace witan

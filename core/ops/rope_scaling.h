// Rotary frequencies, plain or stretched for sequences longer than those a model was trained on:
// linear (Chen et al. 2023), YaRN (Peng et al. 2023), and the formula of Llama 3.1.
#pragma once

#include <cstdint>
#include <vector>

namespace witan::ops {

struct RopeScaling {
  enum class Kind { kNone, kLinear, kYarn, kLlama3 };
  Kind kind = Kind::kNone;
  double factor = 1.0;           // new length over original length
  double original_length = 0.0;  // tokens; kYarn and kLlama3
  // Turns within the original length: a frequency with more than `fast` stays, one with less than
  // `slow` is divided by the factor.
  double fast = 32.0;
  double slow = 1.0;
  bool truncate = true;           // kYarn: round the indices in between outwards
  double attention_factor = 1.0;  // on cosines and sines

  bool operator==(const RopeScaling&) const = default;
};

// Radians per position of the head_dim / 2 pairs: theta^(-2 i / head_dim), stretched.
std::vector<double> rope_frequencies(double theta, std::int64_t head_dim,
                                     const RopeScaling& scaling);

// YaRN's growth of the attention's temperature: 0.1 mscale ln(factor) + 1; 1 for a factor up to 1.
double yarn_mscale(double factor, double mscale);

}  // namespace witan::ops

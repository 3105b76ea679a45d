// Sparse upcycling (Komatsuzaki et al. 2023), with fine-grained experts by virtual groups (He et
// al. 2024): a dense model becomes a Mixture of Experts that computes what it computed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "configs/schema/model.pb.h"
#include "launch/grow/grown_checkpoint.h"

namespace witan {

struct UpcycleOptions {
  std::int64_t experts = 0;  // E copies of each dense feed-forward part
  std::int64_t top_k = 0;    // k of them for a token
  // G: each copy is cut into G experts of d_ff / G that share its row of the router; a token then
  // has k G of E G experts.
  std::int64_t granularity = 1;
  configs::RouterConfig::Score score = configs::RouterConfig::SOFTMAX;
  configs::RouterConfig::Weights weights = configs::RouterConfig::RENORMALIZED;
  // Standard deviation of what is added to the experts' weights, relative to the root mean square
  // of the tensor; 0: exact copies.
  double noise = 0.0;
  std::optional<double> router_init_std;  // none: the model's init_std
  std::uint64_t seed = 1;                 // of router and noise
  configs::LayerPattern pattern;          // which layers; the others stay dense
};

// Grows the dense model of `from` (a checkpoint, a run folder, or a Hugging Face folder) and writes
// a checkpoint of weights to `to`, which must not exist. Expert e G + g holds rows [g f, (g + 1) f)
// of gate and up and those columns of G times down, f = d_ff / G. With weights that sum to 1 and
// without noise the function is that of the dense model, rounding aside:
//   sum over a chosen copy's G experts of (w / G) (G down_g h_g) = w down h.
// Weights AS_IS do not sum to 1 and are refused, and so are a model that has experts already,
// widths that do not divide, and whatever the model's own checks refuse (UserError).
GrowReport upcycle(const std::string& from, const std::string& to, const UpcycleOptions& options);

}  // namespace witan

// Capacity of experts: which pairs of a token and one of its experts find a place. Definitions:
// docs/numerics.md, section "Capacity".
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// Who gets a place first; among equals the earlier token, then the earlier choice.
enum class Priority {
  kTokenMajor,   // the first tokens, with all their choices
  kChoiceMajor,  // all first choices, then all second ones, ...
  kWeight,       // the larger weights
  kBestScore,    // as kChoiceMajor, but tokens in descending order of their best score
};

struct ExpertPlaces {
  Priority priority;
  std::int64_t each;     // places of an expert
  std::int64_t experts;  // that have places; those with higher numbers have room for all
};

// kept [tokens, top_k] int32 = chosen where the pair finds a place, else kNoChoice; chosen itself
// stays. weights [tokens, top_k] of the chosen and s [tokens, at least experts], float32 or float64
// of one type, are only compared: twins agree wherever their operands do.
void keep_places(const Context& ctx, const ExpertPlaces& places, const TensorView& chosen,
                 const TensorView& weights, const TensorView& s, const TensorView& kept);

}  // namespace witan::ops

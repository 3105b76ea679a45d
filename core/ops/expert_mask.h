// Which experts a token may use, by its tag. Definitions: docs/numerics.md, section "Router".
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// Both int32, on the context's device.
struct TagExperts {
  TensorView
      order;  // [tags, experts]: those that the tag may use in ascending order, then the others
  TensorView count;  // [tags]: how many it may use
};

// z [tokens, experts], float32 or float64, becomes minus infinity where a token may not go. tags
// [tokens] int32.
void mask_experts(const Context& ctx, const TagExperts& table, const TensorView& tags,
                  const TensorView& z);

// x becomes minus infinity where z is: equal shapes, float32 or float64 each.
void mask_like(const Context& ctx, const TensorView& z, const TensorView& x);

// table_choices() among the experts that a token may use: of their `count` in order it gets number
// (first_t + j) mod count for j below top_k, first_t = ranks[tokens[t]] top_k, or 0 without ranks;
// kNoChoice for j from count on. tokens, tags [tokens], ranks [vocab] and indices [tokens, top_k]
// int32.
void tag_choices(const Context& ctx, const TagExperts& table, const TensorView& tags,
                 const TensorView& tokens, const TensorView& ranks, const TensorView& indices);

}  // namespace witan::ops

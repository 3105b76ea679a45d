// Index tensors come from data and from routing: a value out of range would read or write foreign
// memory, so ops look at every one of them first.
#pragma once

#include <cstdint>

#include "core/tensor/tensor_view.h"

namespace witan::ops {

// Throws unless every value of `x` (int32, CPU) lies in [begin, end).
void check_indices(const char* op, const char* name, const TensorView& x, std::int64_t begin,
                   std::int64_t end);

// Throws unless begin [lists + 1] (int32, CPU) ascends from 0 to `entries`: lists that follow each
// other.
void check_lists(const char* op, const TensorView& begin, std::int64_t entries);

}  // namespace witan::ops

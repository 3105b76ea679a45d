// Where the tensors that a rank holds lie in its flat buffers, by arithmetic alone.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/param_store.h"

namespace witan {

// Whether products in bfloat16 read this tensor: the matrices (what decays) but those of the
// router, which multiply in full precision, and but an embedding that is only looked up.
bool read_in_bfloat16(const ParamTable& table, const ParamInfo& info);

struct ParamPlacement {
  ParamPlacement(const ParamTable& table, const ParamStore::Layout& layout);

  std::vector<ParamSpan> spans[2];    // [dense, expert]
  std::int64_t elements[2] = {0, 0};  // of the flat buffers, padding included
  std::int64_t state_elements = 0;    // of what has no gradient
  std::int64_t rounded_elements = 0;  // of the copies of what is read_in_bfloat16()
};

}  // namespace witan

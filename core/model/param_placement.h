// Where the tensors that a rank holds lie in its flat buffers, by arithmetic alone.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/param_store.h"

namespace witan {

struct ParamPlacement {
  ParamPlacement(const ParamTable& table, const ParamStore::Layout& layout);

  std::vector<ParamSpan> spans[2];    // [dense, expert]
  std::int64_t elements[2] = {0, 0};  // of the flat buffers, padding included
  std::int64_t state_elements = 0;    // of what has no gradient
};

}  // namespace witan

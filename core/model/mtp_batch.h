// A micro-batch as a module of multi-token prediction sees it.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/context.h"
#include "core/model/batch.h"
#include "core/tensor/arena.h"

namespace witan {

// The first seq_len - depth positions of every sequence of a micro-batch. At position i of a
// sequence `tokens` has the token `depth` places on, and `targets` the one behind that, where it
// counts only if the main model's targets at i .. i + depth all do: nothing is predicted across
// what data.mask_document_start cuts. Positions and the keys that attention may see are those of
// position i.
struct MtpBatch {
  // Throws unless main.seq_len > depth. `main.targets` must be set. The buffers are used again; the
  // arena, on ctx.device, keeps what the device reads.
  void cut(const Context& ctx, Arena& arena, const Batch& main, std::int64_t depth);

  Batch batch;
  std::vector<std::int32_t> tokens, targets, tags;
};

}  // namespace witan

// From samples to the tensors of a Batch.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "configs/schema/run.pb.h"
#include "core/base/context.h"
#include "core/model/batch.h"
#include "core/tensor/tensor.h"

namespace witan {

// Reused buffers (CPU); the views in `batch` point into them, or into `placed`.
struct BatchBuffers {
  std::vector<std::int32_t> window, tokens, targets, positions, first_key, tags;
  Tensor placed;  // [4 rows or more] on a GPU
  Batch batch;
};

// Brings what the model reads to ctx.device, on ctx.stream; nothing to do on the CPU.
void place_batch(const Context& ctx, BatchBuffers& buffers);

// Fills `out` with `count` sequences of seq_len tokens. sample(i, window [seq_len + 1]) writes the
// tokens of the i-th (0-based) and returns its tag; -1 in the window marks what is beyond the end
// (such tokens become id 0 with target -1). With data.reset_at_document, positions and first_key
// start anew behind each `end_of_document` token; with mask_document_start the target that follows
// one is -1.
void build_batch(const configs::DataConfig& data, std::int64_t seq_len,
                 std::int32_t end_of_document, std::int64_t count, std::int64_t first_sequence,
                 const std::function<int(std::int64_t, std::span<std::int32_t>)>& sample,
                 BatchBuffers& out);

}  // namespace witan

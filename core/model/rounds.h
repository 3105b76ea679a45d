// Dropless routing in bounded memory: where more rows want to go to the experts of a rank than it
// has room for, the ranks of an expert-parallel group cut their micro-batches into rounds, which
// are dispatched, worked on and combined one after the other.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/rank_group.h"
#include "core/tensor/tensor_view.h"

namespace witan {

// Fewest rows that a limit has to allow: one token of each rank of the group, with all its choices.
std::int64_t fewest_max_rows(std::int64_t top_k, std::int64_t experts, std::int64_t ranks);

// begins [rounds + 1]: this rank's tokens [begins[i], begins[i + 1]) are in round i. The number of
// rounds is the same on every rank of `group`; in each the slots (pairs of token and expert) for a
// rank are at most max_rows, over all sources together. One round wherever that is enough.
// indices [tokens, top_k] int32, ops::kNoChoice where a token has fewer. max_rows must be at least
// fewest_max_rows(). Collective over the group.
void cut_rounds(const TensorView& indices, std::int64_t experts, std::int64_t max_rows,
                RankGroup& group, std::vector<std::int64_t>& begins);

}  // namespace witan

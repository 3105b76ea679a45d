// The arithmetic of an exchange, without communication: counts, offsets and permutations. See
// core/model/token_exchange.h.
#pragma once

#include <cstdint>
#include <span>

#include "core/model/token_exchange.h"

namespace witan {

// The sender's half: fills tokens, top_k, send_counts, token_of_slot, choice_of_slot and
// slot_of_choice, and counts [experts] = rows for each global expert (these are what the counts
// exchange sends). Index tensors are preallocated by the caller.
void plan_send(std::span<const std::int32_t> indices, std::int64_t tokens, std::int64_t top_k,
               std::int64_t experts, int ranks, std::span<std::int64_t> counts, ExchangePlan& plan);

// The receiver's half from rank_major_counts [ranks, local experts] (rows from each rank for each
// local expert): fills recv_counts, received, expert_offsets, and arrival_of_row [received].
void plan_receive(std::span<const std::int64_t> rank_major_counts, int ranks,
                  std::int64_t local_experts, std::span<std::int32_t> arrival_of_row,
                  ExchangePlan& plan);

}  // namespace witan

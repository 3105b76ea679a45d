// The arithmetic of an exchange, without communication: counts, offsets and permutations. See
// core/model/token_exchange.h.
#pragma once

#include <cstdint>
#include <span>

#include "core/model/token_exchange.h"
#include "core/tensor/arena.h"

namespace witan {

// Sizes of a plan from indices [tokens, top_k] int32; takes the sender's index tensors from
// `arena`.
void begin_plan(const TensorView& indices, Arena& arena, ExchangePlan& plan);

// The sender's half of a begun plan: fills send_counts, token_of_slot, choice_of_slot and
// slot_of_choice, and counts [experts] = rows for each global expert (these are what the counts
// exchange sends).
void plan_send(std::span<const std::int32_t> indices, std::int64_t experts, int ranks,
               std::span<std::int64_t> counts, ExchangePlan& plan);

// The receiver's half from rank_major_counts [ranks, local experts] (rows from each rank for each
// local expert): fills recv_counts, received, expert_offsets, and arrival_of_row [received], which
// it takes from `arena`.
void plan_receive(std::span<const std::int64_t> rank_major_counts, int ranks, Arena& arena,
                  ExchangePlan& plan);

}  // namespace witan

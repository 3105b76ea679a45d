// The arithmetic of an exchange, without communication: counts, offsets and permutations. See
// core/model/token_exchange.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/model/token_exchange.h"
#include "core/tensor/arena.h"

namespace witan {

// What travels once: a token's row to each rank that holds one of its experts, or to each of its
// choices.
enum class RowsPer { kRank, kChoice };

// What the sender tells the receiver about one slot: which of its experts, and whether a new row
// begins here or the slot shares the row before it.
struct SlotCode {
  std::int32_t code = 0;

  static SlotCode of(std::int64_t local_expert, bool begins_row) {
    return {static_cast<std::int32_t>(2 * local_expert + (begins_row ? 1 : 0))};
  }
  std::int64_t local_expert() const { return code >> 1; }
  bool begins_row() const { return (code & 1) != 0; }
};

// The sender's codes, and memory to work with; both keep their capacity.
struct SlotCodes {
  std::vector<SlotCode> codes;           // [sent slots], in the order of choice_of_sent_slot
  std::vector<std::int64_t> last_token;  // [ranks]
  std::vector<std::int64_t> chosen;      // [experts] slots that are no padding
};

// Sizes of a plan from indices [tokens, top_k] int32 on any device. Here and below ops::kNoChoice
// takes no slot; a token without any choice has no row to send and gets zeros back.
void begin_plan(const TensorView& indices, ExchangePlan& plan);

// The sender's half of a begun plan: fills rows_to, slots_to, token_of_sent_row,
// choice_of_sent_slot and sent_rows_of_token with memory from `arena`, and the codes. `places` > 0
// (RowsPer::kChoice only): so many slots for every expert, filled up with rows of any tokens.
void plan_send(std::span<const std::int32_t> indices, std::int64_t experts, int ranks,
               RowsPer rows_per, std::int64_t places, Arena& arena, SlotCodes& codes,
               ExchangePlan& plan);

// The receiver's half from the codes of every source rank, of which rows_from and slots_from (both
// filled) say how many: fills rows, slots, expert_offsets, row_of_slot and slots_of_row with memory
// from `arena`.
void plan_receive(std::span<const SlotCode> codes, std::int64_t local_experts, Arena& arena,
                  ExchangePlan& plan);

// The whole plan where one rank holds every expert: row t is token t, also without a slot.
// choice_of_sent_slot lists the choices in order, as slots_of_row does, both without padding.
// `places` as above.
void plan_local(std::span<const std::int32_t> indices, std::int64_t experts, std::int64_t places,
                Arena& arena, ExchangePlan& plan);

// plan.here: the lists that move rows and weights, on the device of `arena`.
void place_indices(const Context& ctx, Arena& arena, ExchangePlan& plan);
// The same where they have been made on that device.
void use_indices_where_they_are(ExchangePlan& plan);

}  // namespace witan

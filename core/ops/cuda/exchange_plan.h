// The lists of a token exchange (core/model/token_exchange.h), made on the device from expert
// indices that lie there: the same lists as those of the host (core/model/exchange_plan.h). The
// host is told the sizes by a small tensor of counts. All tensors int32. Nobody looks at the values
// of the indices: who makes them answers for them, and for at most `places` choices of an expert.
//
// n = tokens * top_k choices. places > 0: so many slots for every expert, as in
// TokenExchange::plan_begin(); not without tokens.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

// One rank holds every expert: as plan_local() of the host.
struct LocalPlanLists {
  TensorView row_of_slot;          // [slots] used; at least [n]
  TensorView slots_of_row_begin;   // [tokens + 1]
  TensorView slots_of_row;         // [n], -1 behind the slots of choices
  TensorView choice_of_sent_slot;  // [n], the same
  // [experts + 1] choices of each expert, and of all; may be empty
  TensorView counts;
};
void plan_local(const Context& ctx, const TensorView& indices, std::int64_t experts,
                std::int64_t places, const LocalPlanLists& lists);

// The sender's half, of `ranks` ranks that hold the experts in order: as plan_send() of the host.
struct SendPlanLists {
  TensorView token_of_sent_row;         // [sent rows] used; at least [sent slots]
  TensorView choice_of_sent_slot;       // [sent slots] used; at least [n]
  TensorView codes;                     // the same: SlotCode
  TensorView sent_rows_of_token_begin;  // [tokens + 1]
  TensorView sent_rows_of_token;        // as many as the last of those used; at least [n]
  // [ranks, 1 + experts / ranks] what each rank is told: rows for it, then the slots of each of its
  // experts; may be empty.
  TensorView counts;
};
void plan_send(const Context& ctx, const TensorView& indices, std::int64_t experts,
               std::int64_t ranks, bool row_per_choice, std::int64_t places,
               const SendPlanLists& lists);

// The receiver's half from the codes [slots] of every source rank in order: as plan_receive() of
// the host, with source_of_slot.
struct ReceivePlanLists {
  TensorView row_of_slot, source_of_slot;  // [slots]
  TensorView slots_of_row_begin;           // [rows + 1]
  TensorView slots_of_row;                 // [slots]
};
// The rows that this rank got from itself: where they begin among all, and their tokens [own rows].
struct OwnRows {
  std::int64_t begin;
  TensorView tokens_of_rows;
  std::int64_t tokens;  // of this rank
};
void plan_receive(const Context& ctx, const TensorView& codes, std::int64_t local_experts,
                  const OwnRows& own, const ReceivePlanLists& lists);

}  // namespace witan::ops::cuda

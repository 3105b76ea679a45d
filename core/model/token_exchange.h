// How the MoE layer moves tokens to their experts and back. Declared here, implemented by parallel/
// (several ranks) and by LocalTokenExchange (one rank), so that the model does not know about
// communication.
//
// Dispatch makes a plan; everything else reads it. A token's row travels to each rank that holds
// one of its experts; that rank knows which of its experts want the row, adds up what they make of
// it, and sends one row back. The backward of a dispatch is a combine and the reverse:
//   forward   rows = dispatch(x), w = dispatch_weights(weights); y = combine(experts(rows, w))
//   backward  dout = dispatch(dy); drows, dw = experts' backward; dx = combine(drows),
//             dweights = return_weights(dw)
// The routing weight is applied by the expert (its output is linear in it), so a combine is a plain
// sum.
//
// Every rank of the group calls the same functions in the same order, also with zero tokens or zero
// received rows.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/context.h"
#include "core/tensor/arena.h"
#include "core/tensor/tensor_view.h"

namespace witan {

// Who sends which rows where, for one micro-batch in one layer. Its lists are made where the
// indices are, by the host or on the device; sizes are the host's, in vectors that keep their
// capacity from step to step. A slot is a pair of (row, local expert): what an expert works on.
struct ExchangePlan {
  std::int64_t tokens = 0;  // of this rank
  std::int64_t top_k = 0;
  bool open = false;  // between plan_begin() and plan_end(): sizes or lists are still to come

  // Receiver. Rows lie by source rank, then token: one for each (token, this rank), or in the
  // per-choice mode one for each (token, choice); with one rank, row t is token t.
  std::int64_t rows = 0;
  std::int64_t slots = 0;
  std::vector<std::int64_t> expert_offsets;  // [local experts + 1] where each expert's slots begin
  TensorView row_of_slot;                    // [slots] int32, by expert, then row
  TensorView source_of_slot;  // [slots] int32: where that row lies, counted through DispatchedRows
  // The slots of each row, choices ascending: the order of every sum over them. With one rank
  // without those of padding.
  TensorView slots_of_row_begin;  // [rows + 1] int32
  TensorView slots_of_row;        // [slots] int32
  // Not with one rank: which token of its source each row is.
  TensorView token_of_row;  // [rows] int32

  // Sender: with one rank only choice_of_sent_slot is filled. Rows to send lie by destination rank,
  // then token (then choice, in the per-choice mode).
  std::vector<std::int64_t> rows_to, rows_from;    // [ranks] rows for, from each rank
  std::vector<std::int64_t> slots_to, slots_from;  // [ranks] slots for, from each rank
  TensorView token_of_sent_row;                    // [sent rows] int32
  TensorView choice_of_sent_slot;  // [sent slots] int32: token * top_k + choice, by destination
                                   // rank, then token, then choice; -1: padding, behind the others
  // The sent rows of each token, destination ranks (choices, in the per-choice mode) ascending: the
  // order of the sum of a combine, which leaves the rows of padding alone.
  TensorView sent_rows_of_token_begin;  // [tokens + 1] int32
  TensorView sent_rows_of_token;        // [sent rows, padding aside] int32
  // Of a plan made on the device with padding the host does not know how many choices there are:
  // sent_rows_of_token, and with one rank slots_of_row and choice_of_sent_slot, are [tokens *
  // top_k]. Nobody reads the former behind the choices; -1 follows in the others.

  // The lists above by which rows and weights are moved, on the device of the rows: copies of those
  // that the host made, else the same memory.
  struct RowIndices {
    TensorView source_of_slot, slots_of_row_begin, slots_of_row;
    TensorView token_of_sent_row, choice_of_sent_slot;
    TensorView sent_rows_of_token_begin, sent_rows_of_token;
  };
  RowIndices here;
};

// The rows of a dispatch, where they lie: a row of this rank's own tokens is not copied.
struct DispatchedRows {
  TensorView own;     // [plan.tokens, d] what this rank dispatched
  TensorView others;  // [rows of the other ranks, d] in the order of the plan's rows
};

// Memory of a plan: of the lists that the host makes, and of those on the device of the rows.
struct PlanArenas {
  Arena& host;
  Arena& here;
};

class TokenExchange {
 public:
  virtual ~TokenExchange() = default;

  virtual int ranks() const = 0;
  virtual int rank() const = 0;  // within the expert-parallel group
  // Memory of its own: staging buffers, grown to their high-water mark.
  virtual std::size_t buffer_bytes() const { return 0; }
  // Rows in arenas of this memory are dispatched without being copied first; null: any memory is as
  // good. Arenas must end before the exchange does.
  virtual BlockSource* memory() { return nullptr; }
  std::int64_t local_experts(std::int64_t experts) const { return experts / ranks(); }
  std::int64_t first_expert(std::int64_t experts) const { return local_experts(experts) * rank(); }

  // With `places` > 0 every expert gets so many slots of this rank, at least as many as chose it,
  // unless the rank has no tokens; those that nobody chose are padding of weight 0.
  struct Padding {
    std::int64_t places = 0;
    bool even = false;  // every rank has as many tokens and asks for as many places
  };
  // indices [tokens, top_k] int32 (host or ctx.device): global expert ids, or -1 for no choice.
  // Tells every rank what it will get. Of indices on the device the plan, its lists included, is
  // complete only after plan_end(): the sizes are on their way to the host, which may enqueue other
  // work first. Even padding, or padding with one rank, makes them known without that.
  virtual void plan_begin(const Context& ctx, const TensorView& indices, std::int64_t experts,
                          const Padding& padding, const PlanArenas& arenas, ExchangePlan& plan) = 0;
  // In the order of the begins.
  virtual void plan_end(const Context& ctx, ExchangePlan& plan) = 0;
  void plan(const Context& ctx, const TensorView& indices, std::int64_t experts,
            const Padding& padding, Arena& arena, ExchangePlan& plan) {
    plan_begin(ctx, indices, experts, padding, {arena, arena}, plan);
    plan_end(ctx, plan);
  }

  // Begin starts a transfer, end waits for it; between the two the caller may compute. At most one
  // transfer of each direction is in flight.
  // x [tokens, d] -> plan.rows rows, each once whatever the number of its slots, in x itself and in
  // memory from `arena`. x must stay as it is until the end of the combine that follows with the
  // same plan.
  virtual void dispatch_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& x,
                              Arena& arena) = 0;
  virtual DispatchedRows dispatch_end(const Context& ctx) = 0;

  // Memory [plan.rows, d] for what a combine will send: with one rank y itself, else from `arena`
  // or where the other ranks read it. Rows that are written anywhere else cost a copy.
  virtual TensorView combine_input(const ExchangePlan& plan, const TensorView& y, Arena& arena) = 0;
  // rows [plan.rows, d] -> y [tokens, d]: y_t = sum of its rows, by ascending rank that made them
  // (by ascending choice in the per-choice mode). Both belong to the transfer until its end.
  virtual void combine_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& rows,
                             const TensorView& y) = 0;
  virtual void combine_end(const Context& ctx) = 0;

  // weights [tokens, top_k] -> slot_weights [plan.slots], and back: dslot_weights [plan.slots] ->
  // dweights [tokens, top_k]. Those of slots on ctx.device, the others there or on the host, which
  // then waits for dweights.
  virtual void dispatch_weights(const Context& ctx, const ExchangePlan& plan,
                                const TensorView& weights, const TensorView& slot_weights) = 0;
  virtual void return_weights(const Context& ctx, const ExchangePlan& plan,
                              const TensorView& dslot_weights, const TensorView& dweights) = 0;

  DispatchedRows dispatch(const Context& ctx, const ExchangePlan& plan, const TensorView& x,
                          Arena& arena) {
    dispatch_begin(ctx, plan, x, arena);
    return dispatch_end(ctx);
  }
  void combine(const Context& ctx, const ExchangePlan& plan, const TensorView& rows,
               const TensorView& y) {
    combine_begin(ctx, plan, rows, y);
    combine_end(ctx);
  }
};

}  // namespace witan

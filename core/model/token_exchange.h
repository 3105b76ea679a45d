// How the MoE layer moves tokens to their experts and back. Declared here, implemented by parallel/
// (several ranks) and by LocalTokenExchange (one rank), so that the model does not know about
// communication.
//
// Dispatch makes a plan; everything else reads it. The backward of a dispatch is a combine and the
// reverse:
//   forward   rows = dispatch(x), w = dispatch_weights(weights); out = experts(rows, w); y =
//   combine(out) backward  dout = dispatch(dy); drows, dw = experts' backward; dx = combine(drows),
//   dweights = return_weights(dw)
// The routing weight is applied by the expert (its output is linear in it), so a combine is a plain
// sum.
//
// Every rank of the group calls the same functions in the same order, also with zero tokens or zero
// received rows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/context.h"
#include "core/tensor/arena.h"
#include "core/tensor/tensor_view.h"

namespace witan {

// Who sends which rows where, for one micro-batch in one layer. Host vectors keep their capacity
// from step to step.
struct ExchangePlan {
  std::int64_t tokens = 0;  // of this rank
  std::int64_t top_k = 0;
  std::int64_t received = 0;  // rows this rank's experts work on

  // Sender. Slots are the rows of the send buffer: by destination rank, then global expert id, then
  // token, then choice.
  std::vector<std::int64_t> send_counts;  // [ranks] rows for each rank
  std::vector<std::int64_t> recv_counts;  // [ranks] rows from each rank
  TensorView token_of_slot;   // [tokens top_k] int32: the token each slot copies (permute)
  TensorView choice_of_slot;  // [tokens top_k] int32: token * top_k + choice of each slot
  TensorView slot_of_choice;  // [tokens, top_k] int32: inverse of choice_of_slot (unpermute_sum)

  // Receiver. Rows arrive by source rank, then expert; experts want them by expert, then source
  // rank, then token.
  TensorView
      arrival_of_row;  // [received] int32: expert-ordered row -> position on arrival (permute)
  std::vector<std::int64_t>
      expert_offsets;  // [local experts + 1] rows of each local expert, in expert order
};

class TokenExchange {
 public:
  virtual ~TokenExchange() = default;

  virtual int ranks() const = 0;
  virtual int rank() const = 0;  // within the expert-parallel group
  // Memory of its own: staging buffers, grown to their high-water mark.
  virtual std::size_t buffer_bytes() const { return 0; }
  std::int64_t local_experts(std::int64_t experts) const { return experts / ranks(); }
  std::int64_t first_expert(std::int64_t experts) const { return local_experts(experts) * rank(); }

  // indices [tokens, top_k] int32: global expert ids. Exchanges the counts; index tensors come from
  // `arena`.
  virtual void plan(const Context& ctx, const TensorView& indices, std::int64_t experts,
                    Arena& arena, ExchangePlan& plan) = 0;

  // Begin starts a transfer, end waits for it and leaves the result in place; between the two the
  // caller may compute. At most one transfer of each direction is in flight. x, rows and y stay
  // untouched by the caller until the end. x [tokens, d] -> rows [received, d], in expert order:
  // every token's row once per choice.
  virtual void dispatch_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& x,
                              const TensorView& rows) = 0;
  virtual void dispatch_end(const Context& ctx) = 0;

  // rows [received, d], in expert order -> y [tokens, d]: y_t = sum over the choices j of t,
  // ascending, of their rows.
  virtual void combine_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& rows,
                             const TensorView& y) = 0;
  virtual void combine_end(const Context& ctx) = 0;

  // weights [tokens, top_k] -> row_weights [received], and back: drow_weights [received] ->
  // dweights [tokens, top_k].
  virtual void dispatch_weights(const Context& ctx, const ExchangePlan& plan,
                                const TensorView& weights, const TensorView& row_weights) = 0;
  virtual void return_weights(const Context& ctx, const ExchangePlan& plan,
                              const TensorView& drow_weights, const TensorView& dweights) = 0;

  void dispatch(const Context& ctx, const ExchangePlan& plan, const TensorView& x,
                const TensorView& rows) {
    dispatch_begin(ctx, plan, x, rows);
    dispatch_end(ctx);
  }
  void combine(const Context& ctx, const ExchangePlan& plan, const TensorView& rows,
               const TensorView& y) {
    combine_begin(ctx, plan, rows, y);
    combine_end(ctx);
  }
};

}  // namespace witan

// What the model asks of other ranks besides moving tokens: small sums and gathers. Declared here,
// implemented over a communicator by parallel/rank_group.h, so that the model does not know about
// communication.
//
// Every rank of the group calls the same functions in the same order, also without tokens.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan {

class RankGroup {
 public:
  virtual ~RankGroup() = default;

  virtual int size() const = 0;
  virtual int rank() const = 0;
  // In place: every value of x (float64, on ctx.device) becomes its sum over the ranks, the same
  // bits on each. Of a device's memory: for work that is enqueued on ctx.stream later, and the host
  // waits only where it carries the values itself.
  virtual void sum(const Context& ctx, const TensorView& x) = 0;
  void sum(std::span<double> values) {
    sum(Context{}, view_of(values.data(), {static_cast<std::int64_t>(values.size())}));
  }

  // The rows of all ranks, those of rank 0 first.
  struct Gathered {
    TensorView rows;         // [sum of rows, d]
    std::int64_t first = 0;  // where this rank's rows begin
  };
  // x [rows, d] on ctx.device, as many rows as a rank has; `even`: as many as every other. The rows
  // are there for work that is enqueued on ctx.stream later, and live until the next call.
  virtual Gathered gather(const Context& ctx, const TensorView& x, bool even) = 0;

  // The group of one rank: nothing to add, nothing to gather.
  static RankGroup& alone();
};

}  // namespace witan

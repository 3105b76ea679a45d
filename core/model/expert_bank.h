// This rank's experts of one MoE layer: one contiguous bank, grouped GEMM over uneven (possibly
// empty) groups of rows.
//   up = rows W_up^T (+ b_up);  h = weight * act(up);  out = h W_down^T (+ weight * b_down)
#pragma once

#include <cstdint>
#include <span>

#include "core/base/graph_segment.h"
#include "core/model/model_context.h"
#include "core/model/param_store.h"
#include "core/ops/activation.h"
#include "core/ops/gemm.h"

namespace witan {

class ExpertBank {
 public:
  ExpertBank(const configs::MoeConfig& config, const ParamStore& params, int layer);

  struct Saved {
    TensorView up;  // [rows, input_factor * ff]: gate and up for SwiGLU
    TensorView h;   // [rows, ff]: routing weight included; of stored_type()
  };

  // Of rows, h, dout and what lies between the backward's products, where everything else is of
  // `dtype`: bfloat16 where products round them anyway, unless biases sum them in full.
  DType stored_type(const Context& ctx, DType dtype) const {
    return up_bias_.empty() ? ops::operand_dtype(ctx, dtype) : dtype;
  }

  // The part up to the activation; up and h are preallocated. rows [rows, d] ordered by expert with
  // offsets [local experts + 1]; row_weights [rows]. rows, h and dout are of stored_type().
  void forward_up(const Context& ctx, const TensorView& rows, std::span<const std::int64_t> offsets,
                  const TensorView& up) const;
  void forward_activation(const Context& ctx, const TensorView& up, const TensorView& row_weights,
                          const TensorView& h) const;
  // out [rows, d].
  void forward_down(const Context& ctx, const TensorView& h, std::span<const std::int64_t> offsets,
                    const TensorView& row_weights, const TensorView& out) const;

  // The three in one. out may alias rows of its type.
  void forward(const Context& ctx, const TensorView& rows, std::span<const std::int64_t> offsets,
               const TensorView& row_weights, const Saved& saved, const TensorView& out) const;

  // drows [rows, d] and drow_weights [rows] overwritten; parameter gradients accumulate, or are
  // overwritten if `gradients` says so; saved.up may be overwritten. drows may alias a dout of its
  // type.
  void backward(const Context& ctx, const TensorView& dout, const TensorView& rows,
                std::span<const std::int64_t> offsets, const TensorView& row_weights,
                const Saved& saved, const TensorView& drows, const TensorView& drow_weights,
                ops::Accumulate gradients, Arena& scratch) const;

  // What the work on padded experts follows from besides the tensors handed in.
  void add_to_key(GraphKey& key) const;

  std::int64_t up_width() const { return up_.shape[1]; }
  std::int64_t ff() const { return down_.shape[2]; }

 private:
  // Some of the experts with their rows.
  struct Part;
  // f(part): once with everything, each op of it on all threads; or, where no expert has so many
  // rows that others would wait for it, once for each expert, all ops of it on one thread, which
  // then finds what lies between them in its cache. Same bits. Experts without rows are left out
  // unless `empty_too`.
  template <class F>
  void in_parts(const Context& ctx, std::span<const std::int64_t> offsets, bool empty_too,
                const F& f) const;
  ExpertBank expert(std::int64_t index) const;  // the bank of one
  void backward_part(const Context& ctx, const TensorView& dout, const TensorView& rows,
                     std::span<const std::int64_t> offsets, const TensorView& row_weights,
                     const Saved& saved, const TensorView& dh, const TensorView& dup,
                     const TensorView& drows, const TensorView& drow_weights,
                     ops::Accumulate gradients) const;

  ops::Activation activation_;
  ops::SwigluOptions swiglu_;
  TensorView up_, down_, dup_,
      ddown_;  // [local experts, input_factor * ff, d], [local experts, d, ff]
  TensorView up_bias_, down_bias_, dup_bias_, ddown_bias_;  // [local experts, width]; may be empty
};

}  // namespace witan

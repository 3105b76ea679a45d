// The values and gradients of this rank's tensors: two flat buffers each, one for what every rank
// holds (dense, router) and one for its experts, so that reduction and optimizer work on spans.
// State without gradient stands apart.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/context.h"
#include "core/model/param_table.h"
#include "core/ops/rounded_weights.h"
#include "core/tensor/tensor.h"

namespace witan {

enum class ParamGroup { kDense, kExpert };

// Where a tensor of this rank lies in its group's flat buffer, in elements.
struct ParamSpan {
  int id = -1;  // in the ParamTable
  std::int64_t begin = 0;
  std::int64_t size = 0;
};

class ParamStore {
 public:
  // Experts [first_expert, first_expert + local_experts) of each expert tensor. Gradients are
  // allocated if `with_gradients`, and zero. Values are uninitialised until initialize() or a
  // checkpoint fills them (padding is zero). Flat buffers are padded to a multiple of 16 *
  // dense_ranks and 16 * expert_ranks elements, so that those ranks can share them evenly (ZeRO-1).
  struct Layout {
    std::int64_t first_expert = 0;
    std::int64_t local_experts = 0;
    int dense_ranks = 1;   // ranks that hold the dense tensors
    int expert_ranks = 1;  // ranks that hold the same expert shard
  };
  // State without gradient lies in host memory, everything else on `device`; `stream`: of the
  // copies to and from it.
  ParamStore(const ParamTable& table, const Layout& layout, DType dtype, Device device,
             bool with_gradients, Stream stream = {});

  // The same values at any number of ranks: addressed by (seed, tensor name, global element index).
  void initialize(std::uint64_t seed);

  const ParamTable& table() const { return table_; }
  DType dtype() const { return dtype_; }
  Device device() const { return ctx_.device; }
  // Where the values are, and the stream on which they are copied.
  const Context& context() const { return ctx_; }
  const Layout& layout() const { return layout_; }

  // This rank's part: [local_experts, rows, cols] for an expert tensor. An id of -1 gives an empty
  // view (an absent bias). Like flat_values(): who wants to write asks for the view then, since
  // that is what makes the copies of refresh_rounded() stale; older views are for reading.
  TensorView value(int id) const;
  TensorView grad(int id) const;
  TensorView value(const std::string& name) const { return value(table_.find(name)); }
  TensorView grad(const std::string& name) const { return grad(table_.find(name)); }

  // Flat buffers [n]; n may be 0. Each tensor starts at a multiple of 16 elements; the padding
  // stays zero.
  TensorView flat_values(ParamGroup group) const;
  TensorView flat_grads(ParamGroup group) const;
  const std::vector<ParamSpan>& spans(ParamGroup group) const;
  bool has_gradients() const { return with_gradients_; }

  // Keeps copies in bfloat16 of the matrices that products read, where ctx computes them so: on
  // CUDA, and on the CPU for weights without gradients (core/ops/rounded_weights.h); nothing
  // elsewhere. Once.
  void keep_rounded(const Context& ctx);
  // Brings them up to date if anybody has asked for values since; before the forward of a
  // micro-batch. Enqueued on ctx.stream.
  void refresh_rounded(const Context& ctx);
  std::size_t value_bytes() const;    // of the flat buffers
  std::size_t rounded_bytes() const;  // of the copies; 0: none are kept

 private:
  const ParamTable& table_;
  Layout layout_;
  DType dtype_;
  Context ctx_;
  bool with_gradients_;
  Tensor values_[2];
  Tensor grads_[2];
  std::unique_ptr<ops::RoundedWeights> rounded_[2];  // null: not kept
  void values_may_change(int group) const;
  std::vector<ParamSpan> spans_[2];
  std::vector<ParamSpan> where_;  // by id
  std::vector<Tensor> states_;    // by id; empty but for kState
};

}  // namespace witan

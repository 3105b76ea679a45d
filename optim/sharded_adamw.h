// Gradient reduction, clipping by the true global norm and AdamW (Loshchilov and Hutter 2019) over
// the flat buffers of a ParamStore. With ZeRO-1 (Rajbhandari et al. 2020) each rank keeps and
// updates an even share of every buffer it holds with others: dense tensors are shared by the
// world, an expert shard by its replicas.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "configs/schema/run.pb.h"
#include "core/base/context.h"
#include "core/model/param_store.h"
#include "parallel/mesh.h"

namespace witan {

class ShardedAdamW {
 public:
  // Refuses (UserError) an optimizer.rule that matches no tensor. Tensors whose rule has factor 0,
  // and experts' parts of them, are frozen: not updated, not decayed, and their gradients do not
  // count in the norm.
  ShardedAdamW(const configs::OptimizerConfig& config, ParamStore& params, const Mesh& mesh,
               const Context& ctx);
  ~ShardedAdamW();
  ShardedAdamW(const ShardedAdamW&) = delete;
  ShardedAdamW& operator=(const ShardedAdamW&) = delete;

  // Sums the gradients over the ranks that hold them: after end() this rank's shard is complete
  // (with zero1; else all of it) for work enqueued on ctx.stream. Begin starts it, so that the
  // caller may do other work; the gradients belong to the operation until end(). The expert group
  // can be begun first.
  void reduce_begin(ParamGroup group);
  void reduce_end(ParamGroup group);
  // The gradients of this decoder layer are complete, by work that is enqueued: over NCCL their
  // sums begin on the communicators' streams, while the backward of the layers before goes on.
  // Reductions are the same, layer by layer, whether they begin here or in reduce_begin(): same
  // sums, same bits. Elsewhere it does nothing.
  void reduce_layer(int layer);

  struct Norm {
    double value = 0.0;     // of the sum of gradients / divisor, over all trained tensors
    std::string nonfinite;  // name of a tensor with a NaN or infinite gradient, the same on every
                            // rank; empty: all finite
  };
  // Collective. `divisor`: loss tokens of the whole step. Call after both reduce_end.
  Norm gradient_norm(double divisor);

  // One update with gradients scaled by min(1, clip_norm / norm) / divisor, then the new values are
  // gathered. `step` counts from 0 and is the exponent of the bias correction. Collective.
  void step(std::int64_t step, double lr, double norm, double divisor);

  // Gradients to zero, on every rank.
  void zero_gradients();
  void zero_gradients(ParamGroup group);

  // Optimizer state in full for checkpoints: the flat buffer of moment 0 (m) or 1 (v) of a group,
  // gathered from the ranks that share it into `flat` (host), laid out like
  // params.flat_values(group); collective over those ranks. set_moment takes this rank's share out
  // of `flat`.
  void gather_moment(int moment, ParamGroup group, const TensorView& flat);
  void set_moment(int moment, ParamGroup group, const TensorView& flat);

  std::size_t state_bytes() const;

 private:
  struct Shard;
  const Shard& shard(ParamGroup group) const;
  Shard& shard(ParamGroup group);
  void begin_bucket(Shard& shard, std::size_t bucket);
  void update(const Shard& shard, std::int64_t step, double lr, double grad_scale);

  const configs::OptimizerConfig config_;
  ParamStore& params_;
  const Mesh& mesh_;
  Context ctx_;
  std::vector<Shard> shards_;  // [dense, expert]
};

}  // namespace witan

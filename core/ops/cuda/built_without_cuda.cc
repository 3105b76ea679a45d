// The CUDA twins of the ops in a build without CUDA. Only functions that the .cu files define may
// stand here: where the tests link those files' objects, they take the place of this one whole.
#include "core/base/cuda/built_without_cuda.h"

#include "core/ops/cuda/activation.h"
#include "core/ops/cuda/adamw.h"
#include "core/ops/cuda/attention.h"
#include "core/ops/cuda/balance.h"
#include "core/ops/cuda/capacity.h"
#include "core/ops/cuda/columns.h"
#include "core/ops/cuda/cross_entropy.h"
#include "core/ops/cuda/elementwise.h"
#include "core/ops/cuda/embedding.h"
#include "core/ops/cuda/exchange_plan.h"
#include "core/ops/cuda/expert_choice.h"
#include "core/ops/cuda/expert_mask.h"
#include "core/ops/cuda/gemm.h"
#include "core/ops/cuda/grouped_bias.h"
#include "core/ops/cuda/grouped_gemm.h"
#include "core/ops/cuda/jitter.h"
#include "core/ops/cuda/kv_append.h"
#include "core/ops/cuda/latent_heads.h"
#include "core/ops/cuda/limits.h"
#include "core/ops/cuda/narrow.h"
#include "core/ops/cuda/norm.h"
#include "core/ops/cuda/permute.h"
#include "core/ops/cuda/reduce.h"
#include "core/ops/cuda/rope.h"
#include "core/ops/cuda/route.h"
#include "core/ops/cuda/router_noise.h"
#include "core/ops/cuda/sigmoid_gate.h"
#include "core/ops/cuda/sinkhorn.h"
#include "core/ops/cuda/sliding_window.h"
#include "core/ops/cuda/slot_weights.h"
#include "core/ops/cuda/smooth_load.h"
#include "core/ops/cuda/topk.h"
#include "core/ops/cuda/two_gates.h"
#include "core/ops/cuda/wire_rows.h"
#include "core/ops/cuda/words.h"
#include "core/ops/cuda/zero_experts.h"

namespace witan::ops::cuda {

using witan::cuda::throw_built_without_cuda;

// activation.h

void activation(const Context&, Activation, const TensorView&, const TensorView&, const TensorView&,
                const SwigluOptions&) {
  throw_built_without_cuda("activation");
}

void activation_backward(const Context&, Activation, const TensorView&, const TensorView&,
                         const TensorView&, const TensorView&, const TensorView&,
                         const SwigluOptions&) {
  throw_built_without_cuda("activation_backward");
}

// adamw.h

void adamw(const Context&, const AdamWStep&, const TensorView&, const TensorView&,
           const TensorView&, const TensorView&) {
  throw_built_without_cuda("adamw");
}

// attention.h

void attention(const Context&, const AttentionShape&, const TensorView&, const TensorView&,
               const TensorView&, const TensorView&) {
  throw_built_without_cuda("attention");
}

void attention_backward(const Context&, const AttentionShape&, const TensorView&, const TensorView&,
                        const TensorView&, const TensorView&, const TensorView&, const TensorView&,
                        const TensorView&) {
  throw_built_without_cuda("attention_backward");
}

void attention_cached(const Context&, const AttentionShape&, const TensorView&, const TensorView&,
                      const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("attention_cached");
}

// balance.h

void entropy_loss(const Context&, double, double, const TensorView&, const TensorView&,
                  const TensorView&) {
  throw_built_without_cuda("entropy_loss");
}

void importance(const Context&, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("importance");
}

void importance_backward(const Context&, double, const TensorView&, const TensorView&,
                         const TensorView&) {
  throw_built_without_cuda("importance_backward");
}

void cv2_loss(const Context&, double, const TensorView&, const TensorView&) {
  throw_built_without_cuda("cv2_loss");
}

void load_factors(const Context&, const LoadFactors&, double, const TensorView&, const TensorView&,
                  const TensorView&) {
  throw_built_without_cuda("load_factors");
}

// capacity.h

void keep_places(const Context&, const ExpertPlaces&, const TensorView&, const TensorView&,
                 const TensorView&, const TensorView&) {
  throw_built_without_cuda("keep_places");
}

// columns.h

void copy_columns(const Context&, const TensorView&, std::int64_t, const TensorView&, std::int64_t,
                  std::int64_t) {
  throw_built_without_cuda("copy_columns");
}

// cross_entropy.h

void cross_entropy(const Context&, const TensorView&, const TensorView&, const TensorView&,
                   const TensorView&) {
  throw_built_without_cuda("cross_entropy");
}

// elementwise.h

void fill(const Context&, const TensorView&, double) { throw_built_without_cuda("fill"); }

void copy(const Context&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("copy");
}

void cast(const Context&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("cast");
}

void add(const Context&, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("add");
}

void scale(const Context&, const TensorView&, double) { throw_built_without_cuda("scale"); }

void round_operand(const Context&, const TensorView&) { throw_built_without_cuda("round_operand"); }

void add_bias(const Context&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("add_bias");
}

void bias_backward(const Context&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("bias_backward");
}

// embedding.h

void embedding_backward(const Context&, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("embedding_backward");
}

// exchange_plan.h

void plan_local(const Context&, const TensorView&, std::int64_t, std::int64_t,
                const LocalPlanLists&) {
  throw_built_without_cuda("an exchange plan");
}

void plan_send(const Context&, const TensorView&, std::int64_t, std::int64_t, bool, std::int64_t,
               const SendPlanLists&) {
  throw_built_without_cuda("an exchange plan");
}

void plan_receive(const Context&, const TensorView&, std::int64_t, const OwnRows&,
                  const ReceivePlanLists&) {
  throw_built_without_cuda("an exchange plan");
}

// expert_choice.h

void expert_choice(const Context&, const TensorView&, std::int64_t, std::int64_t,
                   const TensorView&) {
  throw_built_without_cuda("expert_choice");
}

// expert_mask.h

void mask_experts(const Context&, const TagExperts&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("mask_experts");
}

void mask_like(const Context&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("mask_like");
}

void tag_choices(const Context&, const TagExperts&, const TensorView&, const TensorView&,
                 const TensorView&, const TensorView&) {
  throw_built_without_cuda("tag_choices");
}

// gemm.h

void gemm(const Context&, GemmLayout, std::int64_t, std::int64_t, std::int64_t, const TensorView&,
          const TensorView&, const TensorView&, Accumulate) {
  throw_built_without_cuda("gemm");
}

// grouped_bias.h

void grouped_add_bias(const Context&, const TensorView&, std::span<const std::int64_t>,
                      const TensorView&, const TensorView&) {
  throw_built_without_cuda("grouped_add_bias");
}

void grouped_bias_backward(const Context&, const TensorView&, std::span<const std::int64_t>,
                           const TensorView&, const TensorView&, const TensorView&,
                           const TensorView&) {
  throw_built_without_cuda("grouped_bias_backward");
}

void gemm_backward(const Context&, const TensorView&, const TensorView&, const TensorView&,
                   const TensorView&, const TensorView&, Accumulate) {
  throw_built_without_cuda("gemm_backward");
}

// grouped_gemm.h

void grouped_gemm_backward(const Context&, const TensorView&, std::span<const std::int64_t>,
                           const TensorView&, const TensorView&, const TensorView&,
                           const TensorView&, Accumulate) {
  throw_built_without_cuda("grouped_gemm_backward");
}

void grouped_gemm(const Context&, GemmLayout, std::span<const std::int64_t>, const TensorView&,
                  const TensorView&, const TensorView&, Accumulate) {
  throw_built_without_cuda("grouped_gemm");
}

// jitter.h

void jitter(const Context&, const RandomAddress&, std::uint64_t, double, const TensorView&,
            const TensorView&, JitterInto) {
  throw_built_without_cuda("jitter");
}

// kv_append.h

void kv_append(const Context&, const AttentionShape&, const TensorView&, const TensorView&,
               const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("kv_append");
}

void cache_append(const Context&, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("cache_append");
}

// latent_heads.h

void rotate_heads(const Context&, const LatentShape&, const TensorView&, std::int64_t, std::int64_t,
                  std::int64_t, const TensorView&, Rotation) {
  throw_built_without_cuda("rotate_heads");
}

void join_latent_heads(const Context&, const LatentShape&, const TensorView&, const TensorView&,
                       const TensorView&, const TensorView&) {
  throw_built_without_cuda("join_latent_heads");
}

void join_latent_heads_backward(const Context&, const LatentShape&, const TensorView&,
                                const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("join_latent_heads_backward");
}

// limits.h

void bare_product(const Context&, std::int64_t, const TensorView&, const TensorView&,
                  const TensorView&) {
  throw_built_without_cuda("bare_product");
}

void make_operand(const Context&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("make_operand");
}

// narrow.h

void narrow_operand(const Context&, const float*, std::int64_t, std::uint16_t*) {
  throw_built_without_cuda("narrow_operand");
}

// norm.h

void rmsnorm(const Context&, const TensorView&, const TensorView&, double, const TensorView&,
             const TensorView&) {
  throw_built_without_cuda("rmsnorm");
}

void add_rmsnorm(const Context&, const TensorView&, const TensorView&, const TensorView&, double,
                 const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("add_rmsnorm");
}

void add_layernorm(const Context&, const TensorView&, const TensorView&, const TensorView&,
                   const TensorView&, double, const TensorView&, const TensorView&,
                   const TensorView&, const TensorView&) {
  throw_built_without_cuda("add_layernorm");
}

void rmsnorm_backward(const Context&, const TensorView&, const TensorView&, const TensorView&,
                      const TensorView&, const TensorView&, Accumulate, const TensorView&) {
  throw_built_without_cuda("rmsnorm_backward");
}

void layernorm(const Context&, const TensorView&, const TensorView&, const TensorView&, double,
               const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("layernorm");
}

void layernorm_backward(const Context&, const TensorView&, const TensorView&, const TensorView&,
                        const TensorView&, const TensorView&, const TensorView&, Accumulate,
                        const TensorView&, const TensorView&) {
  throw_built_without_cuda("layernorm_backward");
}

// permute.h

void permute(const Context&, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("permute");
}

void permute(const Context&, const TensorView&, const TensorView&, const TensorView&,
             const TensorView&) {
  throw_built_without_cuda("permute");
}

void permute_backward(const Context&, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("permute_backward");
}

void scatter(const Context&, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("scatter");
}

void unpermute_sum(const Context&, const TensorView&, const TensorView&, const TensorView&,
                   const TensorView&, bool) {
  throw_built_without_cuda("unpermute_sum");
}

// reduce.h

double sum(const Context&, const TensorView&) { throw_built_without_cuda("sum"); }

double sum_of_squares(const Context&, const TensorView&) {
  throw_built_without_cuda("sum_of_squares");
}

void add_dot(const Context&, double, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("add_dot");
}

// rope.h

void rope(const Context&, const RopeShape&, const TensorView&, const TensorView&, const TensorView&,
          const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("rope");
}

void rope_backward(const Context&, const RopeShape&, const TensorView&, const TensorView&,
                   const TensorView&, const TensorView&, const TensorView&, const TensorView&,
                   const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("rope_backward");
}

// route.h

void route_topk(const Context&, const RouteKind&, const TensorView&, const TensorView&,
                const TensorView&, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("route_topk");
}

// router_noise.h

void add_router_noise(const Context&, NoiseScale, const RandomAddress&, std::uint64_t,
                      const NoisyLogits&) {
  throw_built_without_cuda("add_router_noise");
}

void router_noise_backward(const Context&, const TensorView&, const TensorView&, const TensorView&,
                           const TensorView&, const TensorView&) {
  throw_built_without_cuda("router_noise_backward");
}

// sigmoid_gate.h

void sigmoid_gate(const Context&, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("sigmoid_gate");
}

void sigmoid_gate_backward(const Context&, const TensorView&, const TensorView&, const TensorView&,
                           const TensorView&) {
  throw_built_without_cuda("sigmoid_gate_backward");
}

// sinkhorn.h

void sinkhorn(const Context&, const TensorView&, std::int64_t, const TensorView&) {
  throw_built_without_cuda("sinkhorn");
}

// sliding_window.h

void narrow_to_window(const Context&, std::int64_t, std::int64_t, const TensorView&,
                      const TensorView&) {
  throw_built_without_cuda("narrow_to_window");
}

// slot_weights.h

void move_weights(const Context&, const TensorView&, const TensorView&, const TensorView&,
                  const TensorView&) {
  throw_built_without_cuda("move_weights");
}

// smooth_load.h

void smooth_load(const Context&, const NoisyChoice&, const NoisyLogits&, const TensorView&) {
  throw_built_without_cuda("smooth_load");
}

void smooth_load_backward(const Context&, const NoisyChoice&, double, const NoisyLogits&,
                          const TensorView&, const TensorView&, const TensorView&,
                          const TensorView&) {
  throw_built_without_cuda("smooth_load_backward");
}

// topk.h

void router_score(const Context&, Score, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("router_score");
}

void topk(const Context&, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("topk");
}

void group_topk(const Context&, const ExpertGroups&, const TensorView&, const TensorView&,
                const TensorView&) {
  throw_built_without_cuda("group_topk");
}

void keep_mass(const Context&, double, const TensorView&, const TensorView&) {
  throw_built_without_cuda("keep_mass");
}

void route_weights(const Context&, RouteWeights, double, const TensorView&, const TensorView&,
                   const TensorView&) {
  throw_built_without_cuda("route_weights");
}

void table_choices(const Context&, const TensorView&, const TensorView&, std::int64_t,
                   const TensorView&) {
  throw_built_without_cuda("table_choices");
}

void router_backward(const Context&, Score, RouteWeights, double, const TensorView&,
                     const TensorView&, const TensorView&, const TensorView&, const TensorView&,
                     const TensorView&, const TensorView&, double, const TensorView&) {
  throw_built_without_cuda("router_backward");
}

void count_experts(const Context&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("count_experts");
}

void router_probability_sums(const Context&, Score, const TensorView&, const TensorView&) {
  throw_built_without_cuda("router_probability_sums");
}

void router_probability_backward(const Context&, Score, const TensorView&, const TensorView&,
                                 const TensorView&) {
  throw_built_without_cuda("router_probability_backward");
}

void add_router_figures(const Context&, bool, const TensorView&, const TensorView&,
                        const TensorView&, const TensorView&) {
  throw_built_without_cuda("add_router_figures");
}

// two_gates.h

void join_gates(const Context&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("join_gates");
}

void gate_choices(const Context&, const TwoGates&, const TensorView&, const TensorView&,
                  const TensorView&) {
  throw_built_without_cuda("gate_choices");
}

void gate_weights(const Context&, const TwoGates&, double, const TensorView&, const TensorView&,
                  const TensorView&) {
  throw_built_without_cuda("gate_weights");
}

void gate_weights_backward(const Context&, const TwoGates&, double, const TensorView&,
                           const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("gate_weights_backward");
}

void join_gates_backward(const Context&, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("join_gates_backward");
}

// wire_rows.h

void narrow_rows(const Context&, const TensorView&, const std::int32_t*, std::int64_t, std::int64_t,
                 std::byte*) {
  throw_built_without_cuda("narrow_rows");
}

void widen_rows(const Context&, const std::byte*, std::int64_t, const TensorView&) {
  throw_built_without_cuda("widen_rows");
}

// words.h

void upload_bytes(const Context&, const std::byte*, std::size_t, void*) {
  throw_built_without_cuda("upload");
}

// zero_experts.h

void zero_experts(const Context&, const ZeroExperts&, const ConstantExperts&, const TensorView&,
                  const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("zero_experts");
}

void zero_experts_backward(const Context&, const ZeroExperts&, const ConstantExperts&,
                           const TensorView&, const TensorView&, const TensorView&,
                           const TensorView&, const TensorView&, const TensorView&,
                           const ConstantExperts&) {
  throw_built_without_cuda("zero_experts_backward");
}

void keep_choices_below(const Context&, std::int64_t, const TensorView&, const TensorView&) {
  throw_built_without_cuda("keep_choices_below");
}

}  // namespace witan::ops::cuda

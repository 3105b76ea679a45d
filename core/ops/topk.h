// Router arithmetic on [tokens, experts] matrices, float32 or float64. Definitions:
// docs/numerics.md, section "Router".
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// kSqrtSoftplus: sqrt(log(1 + exp(z))).
enum class Score { kSoftmax, kSigmoid, kSqrtSoftplus };
// kUniform: 1 / (number of the token's choices), without a gradient.
enum class RouteWeights { kAsIs, kRenormalized, kSoftmaxOfScores, kUniform };

// Where a token chooses fewer experts than there are columns, the rest of its indices are
// kNoChoice: they get weight 0 and give no gradient.
inline constexpr std::int32_t kNoChoice = -1;

// s = score(z); lse [tokens] = logsumexp(z), also for sigmoid (the z-loss reads it). z, s [tokens,
// experts]; s may not alias z.
void router_score(const Context& ctx, Score score, const TensorView& z, const TensorView& s,
                  const TensorView& lse);

// The top_k largest of s + bias per token, in descending order, ties to the lower index. bias
// [experts] (same type) may be empty. indices [tokens, top_k] int32.
void topk(const Context& ctx, const TensorView& s, const TensorView& bias,
          const TensorView& indices);

// How the experts of a group make the group's score: the sum of its `best` largest values of s +
// bias (DeepSeek-V3: 2; with 1 it is the maximum of DeepSeek-V2). The `keep` best groups stay.
inline constexpr std::int64_t kMostGroups = 256;
inline constexpr std::int64_t kMostGroupBest = 16;
struct ExpertGroups {
  std::int64_t groups;
  std::int64_t best;
  std::int64_t keep;
};

// topk among the experts of each token's best groups; ties between groups go to the lower index.
void group_topk(const Context& ctx, const ExpertGroups& groups, const TensorView& s,
                const TensorView& bias, const TensorView& indices);

// Keeps of each token's choices, in their order, as many as are needed for their scores to reach
// `mass` times the sum of all scores, at least one; the rest become kNoChoice. indices in place.
void keep_mass(const Context& ctx, double mass, const TensorView& s, const TensorView& indices);

// weights [tokens, top_k] from the chosen scores (the bias never enters), times `scale`.
// kRenormalized divides by (sum of the chosen + 1e-20).
void route_weights(const Context& ctx, RouteWeights kind, double scale, const TensorView& s,
                   const TensorView& indices, const TensorView& weights);

// The three ops of an ordinary router in one: router_score, topk of s + bias, route_weights.
// Operands and results as there; on CUDA z is read once where a warp can hold a row (512 experts,
// 32 choices), with the bits of the three.
struct RouteKind {
  Score score;
  RouteWeights weights;
  double scale;
};
void route_topk(const Context& ctx, const RouteKind& kind, const TensorView& z,
                const TensorView& bias, const TensorView& s, const TensorView& lse,
                const TensorView& indices, const TensorView& weights);

// Choices that no score takes part in: token t gets experts (first_t + j) mod experts for j below
// top_k, first_t = table[tokens[t]] top_k, or 0 without a table. tokens [tokens], table [vocab] and
// indices [tokens, top_k] int32.
void table_choices(const Context& ctx, const TensorView& tokens, const TensorView& table,
                   std::int64_t experts, const TensorView& indices);

// dz [tokens, experts] is overwritten from dweights [tokens, top_k], through weights and score.
// ds_extra [tokens, experts] (may be empty): a gradient with respect to s from the balancing
// losses, added before the score's backward. z_loss_scale: dz += z_loss_scale * lse * softmax(z) (0
// switches it off); `z` is read only then.
void router_backward(const Context& ctx, Score score, RouteWeights kind, double scale,
                     const TensorView& z, const TensorView& s, const TensorView& lse,
                     const TensorView& indices, const TensorView& weights,
                     const TensorView& dweights, const TensorView& ds_extra, double z_loss_scale,
                     const TensorView& dz);

// counts [experts] int64 (host), overwritten: how often each expert occurs in indices. On CUDA it
// waits for ctx.stream.
void count_experts(const Context& ctx, const TensorView& indices, const TensorView& counts);

// p_sum [experts] is overwritten with the column sums over all tokens of p, the probabilities that
// balancing losses read: p = s for softmax, s / (sum(s) + 1e-20) per token for the other scores.
void router_probability_sums(const Context& ctx, Score score, const TensorView& s,
                             const TensorView& p_sum);

// ds [tokens, experts] accumulates d/ds of sum_t sum_i coefficient[i] * p_ti, where p is as above.
// coefficient [experts].
void router_probability_backward(const Context& ctx, Score score, const TensorView& s,
                                 const TensorView& coefficient, const TensorView& ds);

// sums [4] float64, on ctx.device, accumulates what is reported of a router: the sums of lse, of
// the squares of z, and of every token's largest weight, and how many logits there are. `masked`:
// those that are minus infinity do not count. Nothing waits.
void add_router_figures(const Context& ctx, bool masked, const TensorView& z, const TensorView& lse,
                        const TensorView& weights, const TensorView& sums);

}  // namespace witan::ops

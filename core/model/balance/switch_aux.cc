// switch_aux: coefficient * E * sum_i f_i P_i (Fedus et al. 2021). f_i: share of the (token,
// choice) pairs routed to expert i, a constant for the gradient; P_i: mean over tokens of the score
// (normalised per token for sigmoid). RUNNING counts are those of all ranks and of the step's
// micro-batches so far, as in Megatron: what a micro-batch gets depends on those before it.
#include <algorithm>
#include <vector>

#include "core/model/balance/balancer.h"
#include "core/ops/balance.h"

namespace witan {
namespace {

using configs::SwitchAux;

class SwitchAuxBalancer final : public Balancer {
 public:
  explicit SwitchAuxBalancer(const SwitchAux& config) : config_(config) {}

  const char* name() const override { return "switch_aux"; }
  bool needs_global_fractions() const override {
    return config_.scope() == SwitchAux::GLOBAL_BATCH && config_.counts() != SwitchAux::RUNNING;
  }
  bool pools_layers() const override { return config_.pool_layers(); }
  bool needs_exact_fractions(std::int64_t micro_batches) const override {
    if (!needs_global_fractions()) return false;
    if (config_.has_counts()) return config_.counts() == SwitchAux::EXACT;
    return micro_batches == 1;
  }

  double backward(const Context& ctx, const BalanceInput& input, RouterGradient& gradient,
                  Arena& scratch) override {
    open_gradient(ctx, input.router.s, scratch, gradient.ds);
    const std::int64_t tokens = input.sequences * input.seq_len;
    if (config_.scope() == SwitchAux::SEQUENCE) {
      double value = 0.0;
      for (std::int64_t i = 0; i < input.sequences; ++i) {
        value += add_of_rows(ctx, input, i * input.seq_len, input.seq_len, gradient, scratch);
      }
      return value;
    }
    if (config_.counts() == SwitchAux::RUNNING) {
      count_running(input);
    } else if (config_.scope() == SwitchAux::GLOBAL_BATCH) {
      fractions_.assign(input.global_fractions.begin(), input.global_fractions.end());
    } else if (config_.pool_layers()) {
      to_fractions(input.pooled_counts);
    } else {
      return add_of_rows(ctx, input, 0, tokens, gradient, scratch);
    }
    return add(ctx, input, 0, tokens, gradient, scratch);
  }

 private:
  void to_fractions(std::span<const std::int64_t> counts) {
    std::int64_t total = 0;
    for (const std::int64_t n : counts) total += n;
    fractions_.resize(counts.size());
    for (std::size_t i = 0; i < counts.size(); ++i) {
      fractions_[i] = total > 0 ? static_cast<double>(counts[i]) / static_cast<double>(total) : 0.0;
    }
  }

  // fractions_ of the step so far, over all ranks. Collective.
  void count_running(const BalanceInput& input) {
    fractions_.assign(input.counts.begin(), input.counts.end());
    input.all_ranks->sum(fractions_);
    if (input.micro_batch == 0) running_.assign(fractions_.size(), 0.0);
    double total = 0.0;
    for (std::size_t i = 0; i < running_.size(); ++i) total += running_[i] += fractions_[i];
    for (std::size_t i = 0; i < running_.size(); ++i) {
      fractions_[i] = total > 0.0 ? running_[i] / total : 0.0;
    }
  }

  // fractions_ of the rows [begin, begin + rows).
  void count(const BalanceInput& input, std::int64_t begin, std::int64_t rows) {
    counts_.assign(static_cast<std::size_t>(input.experts), 0);
    const TensorView indices = input.router.indices_on_host().slice_rows(begin, rows);
    const std::int32_t* index = indices.as<std::int32_t>();
    const std::int64_t step = config_.load() == SwitchAux::FIRST_CHOICE ? indices.cols() : 1;
    for (std::int64_t i = 0; i < indices.size(); i += step) {
      if (index[i] != ops::kNoChoice) ++counts_[static_cast<std::size_t>(index[i])];
    }
    to_fractions(counts_);
  }

  // What multiplies the fractions.
  ops::LoadFactors factors(const BalanceInput& input) const {
    const double layers = config_.mean_over_layers() || config_.pool_layers()
                              ? static_cast<double>(input.moe_layers)
                              : 1.0;
    const double factor = scheduled(config_.coefficient(), config_.schedule(), input.progress) *
                          static_cast<double>(input.experts) / layers;
    return {factor, factor * config_.zero_computation_weight(),
            input.experts - input.zero_computation};
  }

  // With the load of the rows [begin, begin + rows) for f.
  double add_of_rows(const Context& ctx, const BalanceInput& input, std::int64_t begin,
                     std::int64_t rows, RouterGradient& gradient, Arena& scratch) {
    if (config_.load() == SwitchAux::UNBIASED) {
      return add_unbiased(ctx, input, begin, rows, gradient, scratch);
    }
    count(input, begin, rows);
    return add(ctx, input, begin, rows, gradient, scratch);
  }

  // Value and gradient over the rows [begin, begin + rows): sum over tokens of coefficient * E *
  // sum_i f_i p_ti.
  double add(const Context& ctx, const BalanceInput& input, std::int64_t begin, std::int64_t rows,
             RouterGradient& gradient, Arena& scratch) {
    if (rows == 0 || fractions_.empty()) return 0.0;
    const ops::LoadFactors factor = factors(input);
    f_.clear();
    for (std::int64_t i = 0; i < input.experts; ++i) {
      f_.push_back((i < factor.computing_experts ? factor.computing : factor.others) *
                   fractions_[static_cast<std::size_t>(i)]);
    }
    return add_probability_loss(ctx, input, input.router.s.slice_rows(begin, rows), f_,
                                gradient.ds.slice_rows(begin, rows), scratch);
  }

  // [rows, top_k]: what the scores s [rows, experts] of the tokens from `begin` on would choose
  // alone. Made where they lie.
  static TensorView unbiased_choice(const Context& ctx, const BalanceInput& input,
                                    const TensorView& s, std::int64_t begin, Arena& scratch) {
    const RouterSaved& router = input.router;
    const TensorView z = router.masked ? router.z.slice_rows(begin, s.rows()) : TensorView{};
    const TensorView indices =
        scratch.allocate({s.rows(), router.indices.cols()}, DType::kInt32, "switch_aux");
    ops::topk(ctx, ranked_scores(ctx, router.masked, z, s, scratch), {}, indices);
    return indices;
  }

  // As add(), with the load of that choice for f, which the host never sees.
  double add_unbiased(const Context& ctx, const BalanceInput& input, std::int64_t begin,
                      std::int64_t rows, RouterGradient& gradient, Arena& scratch) {
    if (rows == 0) return 0.0;
    ArenaScope scope(scratch);
    const TensorView s = input.router.s.slice_rows(begin, rows);
    const TensorView indices = unbiased_choice(ctx, input, s, begin, scratch);
    const TensorView f = scratch.allocate({input.experts}, DType::kFloat64, "switch_aux");
    const TensorView coefficient = scratch.allocate({input.experts}, s.dtype, "switch_aux");
    ops::load_factors(ctx, factors(input), input.gradient_scale, indices, f, coefficient);
    return add_probability_loss(ctx, input, s, f, coefficient, gradient.ds.slice_rows(begin, rows),
                                scratch);
  }

  SwitchAux config_;
  std::vector<double> fractions_;
  std::vector<double> f_;  // fractions_ with all factors of the loss
  std::vector<std::int64_t> counts_;
  std::vector<double> running_;  // RUNNING: whole numbers, summed over ranks and micro-batches
};

}  // namespace

std::unique_ptr<Balancer> make_switch_aux(const configs::BalancerConfig& config) {
  return std::make_unique<SwitchAuxBalancer>(config.switch_aux());
}

}  // namespace witan

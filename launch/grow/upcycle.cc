#include "launch/grow/upcycle.h"

#include <algorithm>
#include <cstring>

#include "core/base/error.h"
#include "launch/checkpoint/checkpoint.h"

namespace witan {
namespace {

void check_source(const GrowSource& source, const UpcycleOptions& options) {
  const ModelDims dims(source.run.model());
  if (dims.moe_layers() > 0) {
    throw_user_error(source.folder, ": is not dense: ", dims.moe_layers(), " of its ", dims.layers,
                     " layers are MoE layers; upcycling starts from a dense model");
  }
  if (dims.mtp > 0) {
    throw_user_error(source.folder, ": has ", dims.mtp,
                     " modules of multi-token prediction (model.mtp), which cannot be upcycled; "
                     "take a dense model without");
  }
  if (options.weights == configs::RouterConfig::AS_IS) {
    throw_user_error(
        "weights AS_IS do not sum to 1: a token would get a share of what the dense layer gives "
        "it, and the grown model would not compute what the dense one does; use RENORMALIZED or "
        "SOFTMAX_OF_SCORES");
  }
  if (options.weights == configs::RouterConfig::UNIFORM) {
    throw_user_error(
        "weights UNIFORM leave the router without a gradient; use RENORMALIZED or "
        "SOFTMAX_OF_SCORES");
  }
  if (options.granularity < 1 || dims.dense_ff % options.granularity != 0) {
    throw_user_error(
        "granularity: found ", options.granularity,
        "; it must divide the width of the dense feed-forward part, ffn.d_ff = ", dims.dense_ff);
  }
}

configs::ModelConfig sparse_model(const configs::ModelConfig& dense,
                                  const UpcycleOptions& options) {
  configs::ModelConfig model = dense;
  configs::MoeConfig& moe = *model.mutable_moe();
  moe.set_experts(options.experts);
  moe.set_d_ff(dense.ffn().d_ff());
  moe.mutable_router()->mutable_top_k()->set_k(options.top_k);
  moe.mutable_router()->set_score(options.score);
  moe.mutable_router()->set_weights(options.weights);
  if (options.router_init_std) moe.mutable_router()->set_init_std(*options.router_init_std);
  if (options.pattern.ByteSizeLong() > 0) *moe.mutable_pattern() = options.pattern;
  if (ModelDims(dense).layers == ModelDims(model).moe_layers()) model.clear_ffn();
  moe.set_granularity(options.granularity);  // carried out with the checks
  return model;
}

// The G experts of a copy share its row, so that they are chosen together: ties go to the lower
// index, and equal rows give equal scores.
void repeat_rows(const TensorView& router, std::int64_t granularity) {
  const auto row_bytes = static_cast<std::size_t>(router.cols()) * size_of(router.dtype);
  auto* rows = static_cast<std::byte*>(router.data);
  for (std::int64_t e = 0; e < router.rows(); ++e) {
    const std::int64_t first = e / granularity * granularity;
    if (e == first) continue;
    std::memcpy(rows + static_cast<std::size_t>(e) * row_bytes,
                rows + static_cast<std::size_t>(first) * row_bytes, row_bytes);
  }
}

// out [experts, 2 ff / G, d] from gate_up [2 ff, d]: slice g of the rows of each half.
template <class T>
void slice_gate_up(const TensorView& gate_up, std::int64_t granularity, const TensorView& out) {
  const std::int64_t ff = gate_up.shape[0] / 2;
  const std::int64_t slice = ff / granularity * gate_up.shape[1];  // elements
  const T* from = gate_up.as<T>();
  T* to = out.as<T>();
  for (std::int64_t e = 0; e < out.shape[0]; ++e) {
    for (std::int64_t half = 0; half < 2; ++half, to += slice) {
      std::copy_n(from + half * ff * gate_up.shape[1] + e % granularity * slice, slice, to);
    }
  }
}

// out [experts, d, ff / G] from down [d, ff]: slice g of the columns, times G.
template <class T>
void slice_down(const TensorView& down, std::int64_t granularity, const TensorView& out) {
  const std::int64_t d = down.shape[0];
  const std::int64_t ff = down.shape[1];
  const std::int64_t width = ff / granularity;
  const T factor = static_cast<T>(granularity);
  T* to = out.as<T>();
  for (std::int64_t e = 0; e < out.shape[0]; ++e) {
    for (std::int64_t row = 0; row < d; ++row, to += width) {
      const T* from = down.as<T>() + row * ff + e % granularity * width;
      std::transform(from, from + width, to, [factor](T x) { return factor * x; });
    }
  }
}

void fill_layer(const WholeModel& dense, const UpcycleOptions& options, int layer, WholeModel& to) {
  const std::string prefix = "layers." + std::to_string(layer) + ".";
  const std::string experts = prefix + "moe.experts.";
  repeat_rows(to.params.value(prefix + "moe.router.weight"), options.granularity);
  const TensorView gate_up = to.params.value(experts + "gate_up");
  const TensorView down = to.params.value(experts + "down");
  dispatch_float(gate_up.dtype, "upcycling", [&](auto zero) {
    using T = decltype(zero);
    slice_gate_up<T>(dense.params.value(prefix + "ffn.gate_up"), options.granularity, gate_up);
    slice_down<T>(dense.params.value(prefix + "ffn.down"), options.granularity, down);
  });
  add_noise(options.noise, options.seed, experts + "gate_up", gate_up);
  add_noise(options.noise, options.seed, experts + "down", down);
}

}  // namespace

GrowReport upcycle(const std::string& from, const std::string& to, const UpcycleOptions& options) {
  check_output(to);
  const GrowSource source(from);
  check_source(source, options);
  const configs::RunConfig run =
      checked_run(grown_run(source, sparse_model(source.run.model(), options), to), "witan grow");
  WholeModel dense(source.run.model(), source.dtype);
  load_weights(source.folder, dense.params, dense.mesh);
  WholeModel sparse(run.model(), source.dtype);
  sparse.params.initialize(options.seed);  // of which the router's rows stay
  copy_common(dense, sparse);
  const std::vector<bool> is_moe = ModelDims(run.model()).is_moe;
  for (std::size_t layer = 0; layer < is_moe.size(); ++layer) {
    if (is_moe[layer]) fill_layer(dense, options, static_cast<int>(layer), sparse);
  }
  return write_grown(source, dense, sparse, run, to);
}

}  // namespace witan

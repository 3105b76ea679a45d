#include "core/model/shared_expert.h"

#include <cmath>

#include "core/ops/gemm.h"
#include "core/ops/parallel.h"

namespace witan {
namespace {

std::string prefix_of(int layer) { return "layers." + std::to_string(layer) + ".moe."; }

constexpr std::int64_t kGrainRows = 64;  // tokens per thread below which threads do not pay

}  // namespace

SharedExpert::SharedExpert(const ParamStore& params, int layer)
    : ffn_(params, prefix_of(layer) + "shared"),
      gate_(params.value(prefix_of(layer) + "shared_gate")) {
  if (params.has_gradients()) dgate_ = params.grad(prefix_of(layer) + "shared_gate");
}

void SharedExpert::forward(const Context& ctx, const TensorView& x, const TensorView& y,
                           Arena& arena, Saved& saved) const {
  if (gate_.empty()) return ffn_.forward(ctx, x, y, arena, saved.ffn);
  saved.out = arena.allocate(y.shape, y.dtype, "shared expert");
  saved.gate = arena.allocate({x.rows()}, x.dtype, "shared expert");
  ffn_.forward(ctx, x, saved.out, arena, saved.ffn);
  ops::gemm_nt(ctx.in_full(), x, gate_, saved.gate.reshape({x.rows(), 1}));
  dispatch_float(x.dtype, "shared gate", [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t d = y.cols();
    T* gate = saved.gate.as<T>();
    ops::parallel_ranges(x.rows(), kGrainRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        gate[t] = 1 / (1 + std::exp(-gate[t]));
        const T* out = saved.out.as<T>() + t * d;
        T* to = y.as<T>() + t * d;
        for (std::int64_t i = 0; i < d; ++i) to[i] = gate[t] * out[i];
      }
    });
  });
}

void SharedExpert::backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                            const Saved& saved, const TensorView& dx, Arena& scratch) const {
  if (gate_.empty()) return ffn_.backward(ctx, dy, x, saved.ffn, dx, scratch);
  ArenaScope scope(scratch);
  const TensorView& dout = saved.out;  // in place
  const TensorView dlogit = scratch.allocate({x.rows(), 1}, x.dtype, "shared expert backward");
  dispatch_float(x.dtype, "shared gate", [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t d = dy.cols();
    const T* gate = saved.gate.as<T>();
    ops::parallel_ranges(x.rows(), kGrainRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        const T* gradient = dy.as<T>() + t * d;
        T* out = dout.as<T>() + t * d;
        double dot = 0.0;
        for (std::int64_t i = 0; i < d; ++i) {
          dot += static_cast<double>(gradient[i]) * static_cast<double>(out[i]);
          out[i] = gate[t] * gradient[i];
        }
        dlogit.as<T>()[t] = static_cast<T>(dot) * gate[t] * (1 - gate[t]);
      }
    });
  });
  ffn_.backward(ctx, dout, x, saved.ffn, dx, scratch);
  ops::gemm_tn(ctx.in_full(), dlogit, x, dgate_);
  ops::gemm_nn(ctx.in_full(), dlogit, gate_, dx, ops::Accumulate::kYes);
}

}  // namespace witan

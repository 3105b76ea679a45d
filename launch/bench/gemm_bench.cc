#include "launch/bench/gemm_bench.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "core/ops/elementwise.h"
#include "core/ops/gemm_kernel.h"
#include "core/ops/grouped_gemm.h"
#include "launch/bench/device_product.h"
#include "launch/bench/peak_probe.h"

namespace witan {
namespace {

constexpr const char* kSection = "gemm";
constexpr double kSecondsPerTurn = 4e-3;  // products that are shorter are repeated

using ops::GemmChoice;
using ops::GemmLayout;

constexpr const char* name_of(GemmLayout layout) {
  return layout == GemmLayout::kNT ? "NT" : layout == GemmLayout::kNN ? "NN" : "TN";
}

struct Product {
  std::string name;
  double flop = 0.0;
  double bytes = 0.0;  // each operand once
  std::function<void()> run;
  std::int64_t times = 1;  // in one turn
};

// x [rows, k], w [groups, n, k], y [rows, n]: NT makes y, NN makes x, TN adds to w.
class Operands {
 public:
  Operands(std::int64_t groups, std::int64_t rows, std::int64_t n, std::int64_t k,
           const Runtime& runtime)
      : groups_(groups), rows_(rows), n_(n), k_(k) {
    for (std::int64_t g = 0; g <= groups; ++g) offsets_.push_back(rows * g / groups);
    const auto tensor = [&](const Shape& shape) {
      if (runtime.ctx.device.is_cpu()) return Tensor::zeros(shape, runtime.dtype);
      Tensor result(shape, runtime.dtype, runtime.ctx.device, "gemm");
      fill_with_noise(runtime.ctx, result);
      return result;
    };
    x_ = tensor({rows, k});
    w_ = tensor({groups, n, k});
    y_ = tensor({rows, n});
  }

  Product product(GemmLayout layout, const char* what, const Context& ctx) const {
    Product product;
    product.name = detail::concat(what, " ", name_of(layout), ", ", rows_, " rows, ", n_, " x ", k_,
                                  groups_ > 1 ? detail::concat(", ", groups_, " experts") : "");
    product.flop = 2.0 * static_cast<double>(rows_ * n_ * k_);
    // TN reads the weight gradient that it adds to.
    const std::size_t again = layout == GemmLayout::kTN ? w_.view().bytes() : 0;
    product.bytes =
        static_cast<double>(x_.view().bytes() + w_.view().bytes() + y_.view().bytes() + again);
    product.run = [this, layout, ctx] { run(layout, ctx); };
    return product;
  }

 private:
  void run(GemmLayout layout, const Context& ctx) const {
    switch (layout) {
      case GemmLayout::kNT: ops::grouped_gemm_nt(ctx, x_, offsets_, w_, y_); break;
      case GemmLayout::kNN: ops::grouped_gemm_nn(ctx, y_, offsets_, w_, x_); break;
      case GemmLayout::kTN: ops::grouped_gemm_tn(ctx, y_, offsets_, x_, w_); break;
    }
  }

  std::int64_t groups_, rows_, n_, k_;
  std::vector<std::int64_t> offsets_;
  Tensor x_, w_, y_;
};

// How often a product runs in one turn; the same on all ranks.
std::int64_t repetitions(const Product& product, const BenchSession& session) {
  product.run();
  Stopwatch trial = session.stopwatch();
  trial.time("once", product.run);
  const double seconds = std::max(1e-7, trial.seconds("once").median);
  return std::clamp<std::int64_t>(std::llround(kSecondsPerTurn / seconds), 1, 10000);
}

struct Kernel {
  const char* name;
  GemmChoice choice;
};

// Those that there is a choice of: only float32 has one.
std::vector<Kernel> kernels_of(const BenchSession& session) {
  if (session.on_cuda()) return {{"cuBLAS", ops::forced_gemm_kernel()}};
  if (session.in_bf16()) return {{"bf16", ops::forced_gemm_kernel()}};
  if (session.runtime.dtype == DType::kFloat64) return {{"own", GemmChoice::kOwn}};
  return {{"own", GemmChoice::kOwn}, {"oneDNN", GemmChoice::kOneDnn}};
}

// In turns: the peak, and the product with each kernel.
void measure(const BenchSession& session, const std::string& subject, Product product,
             PeakProbe& peak, std::vector<BenchResult>& results) {
  const std::vector<Kernel> kernels = kernels_of(session);
  Stopwatch stopwatch = session.stopwatch();
  const GemmChoice chosen = ops::forced_gemm_kernel();
  product.times = repetitions(product, session);
  for (int turn = 0; turn < session.repeat; ++turn) {
    peak.sample(stopwatch);
    for (const Kernel& kernel : kernels) {
      ops::force_gemm_kernel(kernel.choice);
      if (turn == 0) product.run();
      stopwatch.time(kernel.name, [&] {
        for (std::int64_t i = 0; i < product.times; ++i) product.run();
      });
    }
    ops::force_gemm_kernel(chosen);
  }
  const double limit = peak.peak(stopwatch, kSection, subject).gflops();
  const auto times = static_cast<double>(product.times);
  for (const Kernel& kernel : kernels) {
    Spread seconds = stopwatch.seconds(kernel.name);
    for (double* value : {&seconds.median, &seconds.low, &seconds.high}) *value /= times;
    BenchResult result{kSection, subject, product.name + ", " + kernel.name, seconds};
    result.flop = sum_over_ranks(session.world, product.flop);
    result.bytes = sum_over_ranks(session.world, product.bytes);
    result.ratios.push_back({"of peak", result.gflops() / limit});
    results.push_back(std::move(result));
  }
}

}  // namespace

std::vector<BenchResult> bench_gemm(const BenchSession& session, const LayerShape& shape) {
  constexpr std::array kLayouts = {GemmLayout::kNT, GemmLayout::kNN, GemmLayout::kTN};
  const std::int64_t d = shape.model().d_model();
  const std::int64_t ff = shape.model().moe().d_ff();
  const bool gated = shape.model().moe().expert_kind() == configs::MoeConfig::SWIGLU;
  const std::int64_t up = gated ? 2 * ff : ff;
  const std::int64_t rows = shape.tokens * shape.top_k() / session.world.size();
  const std::int64_t local = shape.experts() / expert_parallel_of(shape, session.world.size());

  PeakProbe peak(session);
  std::vector<BenchResult> results;
  const auto add = [&](const char* what, std::int64_t groups, std::int64_t m, std::int64_t n,
                       std::int64_t k) {
    const Operands operands(groups, m, n, k, session.runtime);
    for (const GemmLayout layout : kLayouts) {
      measure(session, shape.name(), operands.product(layout, what, session.runtime.ctx), peak,
              results);
    }
  };
  for (const std::int64_t m : {1, 32, 512}) {
    add("up", 1, m, up, d);
    add("down", 1, m, d, ff);
  }
  add("up", local, rows, up, d);
  add("down", local, rows, d, ff);
  return results;
}

}  // namespace witan

// How fast single CUDA ops are on this GPU, as a Markdown table: those bound by memory as a share
// of the copy bandwidth of the same run, attention as a share of a dense product. Medians of
// alternating rounds. The products of the experts, layers and steps: `witan bench --device cuda`.
// usage: gpu_bench [--tiny]     --tiny: shapes for a stand-in, whose times say nothing
// Exit code 77: no CUDA device.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "core/base/device_timer.h"
#include "core/base/rng.h"
#include "core/base/stream.h"
#include "core/ops/activation.h"
#include "core/ops/adamw.h"
#include "core/ops/attention.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"
#include "core/ops/norm.h"
#include "core/ops/permute.h"
#include "core/tensor/cuda_scratch.h"
#include "core/tensor/transfer.h"
#include "tests/cuda/gpu_absent.h"

namespace witan {
namespace {

constexpr int kRounds = 11;

struct Sizes {
  std::int64_t rows, d, ff, vocab, copy_elements, adamw_elements;
};
constexpr Sizes kReal{16384, 4096, 14336, 32768, std::int64_t{1} << 28, std::int64_t{1} << 28};
constexpr Sizes kTiny{24, 32, 48, 40, 1024, 1024};

const Device kCuda{DeviceType::kCuda, 0};

// One thing that is timed.
struct Entry {
  std::string name;
  double amount;  // bytes moved, or FLOPs
  std::function<void()> run;
  std::vector<double> seconds = {};

  double rate() const {
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    return amount / sorted[sorted.size() / 2];
  }
};

class Bench {
 public:
  explicit Bench(const Context& ctx) : ctx_(ctx) {}

  // Memory that the whole table keeps, filled with small numbers.
  TensorView tensor(const Shape& shape, DType dtype = DType::kFloat32) {
    tensors_.emplace_back(shape, dtype, kCuda);
    ops::fill(ctx_, tensors_.back(), dtype == DType::kInt32 ? 0.0 : 0.01);
    return tensors_.back();
  }
  TensorView indices(const std::vector<std::int32_t>& values) {
    const TensorView host = view_of(values.data(), {static_cast<std::int64_t>(values.size())});
    tensors_.push_back(transferred(ctx_, host, kCuda));
    return tensors_.back();
  }

  // All entries in turn, kRounds times behind a warm-up.
  void measure(std::vector<Entry>& entries) const {
    DeviceTimer timer(ctx_.device);
    for (int round = -1; round < kRounds; ++round) {
      for (Entry& entry : entries) {
        timer.start(ctx_);
        entry.run();
        timer.stop(ctx_);
        const double seconds = timer.seconds();
        if (round >= 0) entry.seconds.push_back(seconds);
      }
    }
  }

 private:
  Context ctx_;
  std::vector<Tensor> tensors_;
};

void print_table(const char* title, const char* unit, const std::vector<Entry>& entries,
                 double scale) {
  std::printf("\n| %s | ms | %s | of the first line |\n|---|---|---|---|\n", title, unit);
  for (const Entry& entry : entries) {
    std::printf("| %s | %.3f | %.1f | %.2f |\n", entry.name.c_str(),
                entry.amount / entry.rate() * 1e3, entry.rate() / scale,
                entry.rate() / entries.front().rate());
  }
}

double floats(std::int64_t count) { return static_cast<double>(count) * sizeof(float); }

void bench_memory(const Context& ctx, const Sizes& s) {
  Bench bench(ctx);
  const TensorView from = bench.tensor({s.copy_elements});
  const TensorView to = bench.tensor({s.copy_elements});
  const TensorView x = bench.tensor({s.rows, s.d});
  const TensorView y = bench.tensor({s.rows, s.d});
  const TensorView dy = bench.tensor({s.rows, s.d});
  const TensorView w = bench.tensor({s.d});
  const TensorView dw = bench.tensor({s.d});
  const TensorView rstd = bench.tensor({s.rows});
  const TensorView up = bench.tensor({s.rows, 2 * s.ff});
  const TensorView dup = bench.tensor({s.rows, 2 * s.ff});
  const TensorView h = bench.tensor({s.rows, s.ff});
  const TensorView weight = bench.tensor({s.rows});
  const TensorView dweight = bench.tensor({s.rows});
  const TensorView logits = bench.tensor({s.rows / 4, s.vocab});
  const TensorView loss = bench.tensor({s.rows / 4});
  const TensorView targets = bench.tensor({s.rows / 4}, DType::kInt32);
  const TensorView master = bench.tensor({s.adamw_elements});
  const TensorView gradient = bench.tensor({s.adamw_elements});
  const TensorView m = bench.tensor({s.adamw_elements});
  const TensorView v = bench.tensor({s.adamw_elements});

  // Every row once, in another order; pairs of rows are summed into half as many.
  std::vector<std::int32_t> order(static_cast<std::size_t>(s.rows)), begin;
  const Permutation permutation(1, "bench", 0, static_cast<std::uint64_t>(s.rows));
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = static_cast<std::int32_t>(permutation(i));
  }
  for (std::int64_t i = 0; i <= s.rows / 2; ++i) begin.push_back(static_cast<std::int32_t>(2 * i));
  const TensorView index = bench.indices(order);
  const TensorView pairs = bench.indices(begin);
  const TensorView half = y.slice_rows(0, s.rows / 2);

  ops::AdamWStep step;
  step.lr = 1e-3;
  step.beta1 = 0.9;
  step.beta2 = 0.95;
  step.eps = 1e-8;
  const double row = floats(s.d) * static_cast<double>(s.rows);
  const double wide = floats(s.ff) * static_cast<double>(s.rows);
  std::vector<Entry> entries = {
      {"copy", 2 * floats(s.copy_elements), [&] { ops::copy(ctx, from, to); }},
      {"rmsnorm", 2 * row, [&] { ops::rmsnorm(ctx, x, w, 1e-5, y, rstd); }},
      // Twice: once for the sums over rows, once for dx.
      {"rmsnorm_backward", 5 * row,
       [&] { ops::rmsnorm_backward(ctx, dy, x, w, rstd, y, ops::Accumulate::kNo, dw); }},
      {"activation, SwiGLU", 3 * wide,
       [&] { ops::activation(ctx, ops::Activation::kSwiglu, up, weight, h); }},
      {"activation_backward, SwiGLU", 5 * wide,
       [&] {
         ops::activation_backward(ctx, ops::Activation::kSwiglu, up, weight, h, dup, dweight);
       }},
      {"permute", 2 * row, [&] { ops::permute(ctx, x, index, y); }},
      {"unpermute_sum, two rows each", 1.5 * row,
       [&] { ops::unpermute_sum(ctx, x, pairs, index, half); }},
      {"cross_entropy with gradient", 3 * floats(s.vocab) * static_cast<double>(s.rows / 4),
       [&] { ops::cross_entropy(ctx, logits, targets, loss, logits); }},
      {"adamw", 7 * floats(s.adamw_elements),
       [&] { ops::adamw(ctx, step, master, gradient, m, v); }}};
  bench.measure(entries);
  print_table("bound by memory", "GB/s", entries, 1e9);
}

// Causal attention, pairs that are seen only, beside a square product.
void bench_attention(const Context& ctx, bool tiny) {
  Bench bench(ctx);
  ops::AttentionShape shape;
  shape.batch = tiny ? 1 : 4;
  shape.seq_len = tiny ? 40 : 4096;
  shape.heads = tiny ? 2 : 32;
  shape.kv_heads = tiny ? 1 : 8;
  shape.head_dim = tiny ? 16 : 128;
  shape.scale = 1.0 / std::sqrt(static_cast<double>(shape.head_dim));
  const std::int64_t rows = shape.batch * shape.seq_len;
  const Shape qkv_shape{rows, (shape.heads + 2 * shape.kv_heads) * shape.head_dim};
  const Shape out_shape{rows, shape.heads * shape.head_dim};
  const TensorView qkv = bench.tensor(qkv_shape);
  const TensorView dqkv = bench.tensor(qkv_shape);
  const TensorView out = bench.tensor(out_shape);
  const TensorView dout = bench.tensor(out_shape);
  const TensorView lse = bench.tensor({rows, shape.heads});
  const TensorView delta = bench.tensor({rows, shape.heads});
  const TensorView first_key = bench.tensor({rows}, DType::kInt32);
  const std::int64_t side = tiny ? 32 : 4096;
  const TensorView a = bench.tensor({side, side});
  const TensorView b = bench.tensor({side, side});
  const TensorView c = bench.tensor({side, side});
  const double pairs = static_cast<double>(shape.batch * shape.heads) *
                       static_cast<double>(shape.seq_len) * static_cast<double>(shape.seq_len + 1) /
                       2;
  const double product = 2 * pairs * static_cast<double>(shape.head_dim);
  std::vector<Entry> entries = {
      {"square product", 2.0 * std::pow(static_cast<double>(side), 3),
       [&] { ops::gemm_nt(ctx, a, b, c); }},
      {"attention", 2 * product, [&] { ops::attention(ctx, shape, qkv, first_key, out, lse); }},
      {"attention_backward", 5 * product,
       [&] { ops::attention_backward(ctx, shape, dout, qkv, first_key, out, lse, delta, dqkv); }}};
  bench.measure(entries);
  print_table("4 x 4096 tokens, 32 heads of 128, 8 of keys, bf16", "TFLOP/s", entries, 1e12);
}

void run(bool tiny) {
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  Context bf16 = ctx;
  bf16.products = Products::kBfloat16;
  bench_memory(ctx, tiny ? kTiny : kReal);
  bench_attention(bf16, tiny);
  cuda::release_scratch(ctx);
}

}  // namespace
}  // namespace witan

int main(int argc, char** argv) {
  const bool tiny = argc == 2 && std::string(argv[1]) == "--tiny";
  if (argc > 1 && !tiny) {
    std::fprintf(stderr, "gpu_bench: found '%s'; the only option is --tiny\n", argv[1]);
    return 2;
  }
  if (witan::test::gpu_absent()) return witan::test::kNotRun;
  try {
    witan::run(tiny);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}

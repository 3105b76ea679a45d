// Speed of the ops around the matrix products, at typical shapes, with the threads of OpenMP. The
// best of several runs, so that a busy machine disturbs less.
//
//   model_ops_bench [repetitions]
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "core/ops/activation.h"
#include "core/ops/attention.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/embedding.h"
#include "core/ops/norm.h"
#include "core/ops/permute.h"
#include "core/ops/rope.h"
#include "core/ops/topk.h"
#include "tests/support/op_case.h"

namespace witan {
namespace {

int repetitions = 20;

template <class F>
double best_seconds(const F& f) {
  double best = 1e30;
  for (int i = 0; i < repetitions; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    best = std::min(best, took.count());
  }
  return best;
}

Tensor random(const Shape& shape) {
  return test::tensor_of(test::random_normal(shape.size(), 1), shape, DType::kFloat32);
}

void bench_attention(std::int64_t batch, std::int64_t seq_len, std::int64_t heads,
                     std::int64_t kv_heads, std::int64_t head_dim) {
  const ops::AttentionShape shape = {batch, seq_len, heads, kv_heads, head_dim, 0.125};
  const std::int64_t tokens = batch * seq_len;
  const Tensor qkv = random({tokens, (heads + 2 * kv_heads) * head_dim});
  const Tensor dqkv = random(qkv.shape());
  const Tensor first_key =
      test::tensor_of(std::vector<std::int32_t>(static_cast<std::size_t>(tokens), 0), {tokens});
  const Tensor out = random({tokens, heads * head_dim});
  const Tensor dout = random(out.shape());
  const Tensor lse = random({tokens, heads});
  const Tensor delta = random({tokens, heads});
  // Visible (query, key) pairs; 2 products of head_dim multiply-adds forward, 5 backward.
  const double pairs = static_cast<double>(batch * heads) * static_cast<double>(seq_len) *
                       static_cast<double>(seq_len + 1) / 2.0;
  const double flops = pairs * static_cast<double>(head_dim) * 2.0;
  const double forward = best_seconds([&] { ops::attention({}, shape, qkv, first_key, out, lse); });
  const double backward = best_seconds(
      [&] { ops::attention_backward({}, shape, dout, qkv, first_key, out, lse, delta, dqkv); });
  std::printf(
      "attention batch %lld seq %lld heads %lld kv %lld dim %lld: ", static_cast<long long>(batch),
      static_cast<long long>(seq_len), static_cast<long long>(heads),
      static_cast<long long>(kv_heads), static_cast<long long>(head_dim));
  std::printf("forward %.2f ms, %.1f GFLOP/s; backward %.2f ms, %.1f GFLOP/s\n", forward * 1e3,
              2.0 * flops / forward * 1e-9, backward * 1e3, 5.0 * flops / backward * 1e-9);
}

// `bytes`: what the op has to read and write at least.
template <class F>
void bench(const char* name, double bytes, const F& f) {
  const double seconds = best_seconds(f);
  std::printf("%-32s %8.3f ms %6.1f GB/s\n", name, seconds * 1e3, bytes / seconds * 1e-9);
}

void bench_rows(std::int64_t tokens, std::int64_t d) {
  const double matrix = static_cast<double>(tokens * d) * 4.0;
  const Tensor x = random({tokens, d});
  const Tensor y = random({tokens, d});
  const Tensor z = random({tokens, d});
  const Tensor w = random({d});
  const Tensor dw = random({d});
  const Tensor rstd = random({tokens});
  const Tensor mean = random({tokens});
  std::printf("tokens %lld, d %lld\n", static_cast<long long>(tokens), static_cast<long long>(d));
  bench("rmsnorm", 2 * matrix, [&] { ops::rmsnorm({}, x, w, 1e-5, y, rstd); });
  bench("rmsnorm_backward (adds dx)", 4 * matrix,
        [&] { ops::rmsnorm_backward({}, y, x, w, rstd, z, ops::Accumulate::kYes, dw); });
  bench("layernorm", 2 * matrix, [&] { ops::layernorm({}, x, w, w, 1e-5, y, mean, rstd); });
  bench("layernorm_backward (adds dx)", 4 * matrix, [&] {
    ops::layernorm_backward({}, y, x, w, mean, rstd, z, ops::Accumulate::kYes, dw, dw);
  });
  const Tensor gate_up = random({tokens, 2 * d});
  const Tensor dgate_up = random({tokens, 2 * d});
  bench("swiglu", 3 * matrix,
        [&] { ops::activation({}, ops::Activation::kSwiglu, gate_up, rstd, y); });
  bench("swiglu_backward", 5 * matrix, [&] {
    ops::activation_backward({}, ops::Activation::kSwiglu, gate_up, rstd, x, dgate_up, mean);
  });
  const Tensor index = test::tensor_of(test::random_indices(tokens, tokens, 1), {tokens});
  std::vector<std::int32_t> pairs;
  for (std::int64_t t = 0; t <= tokens / 2; ++t) pairs.push_back(static_cast<std::int32_t>(2 * t));
  const Tensor begin = test::tensor_of(pairs, {tokens / 2 + 1});
  bench("permute", 2 * matrix, [&] { ops::permute({}, x, index, y); });
  bench("unpermute_sum (k = 2)", 1.5 * matrix,
        [&] { ops::unpermute_sum({}, x, begin, index, y.view().slice_rows(0, tokens / 2)); });
  bench("embedding_backward", 3 * matrix, [&] { ops::embedding_backward({}, index, x, y); });
  const Tensor positions = test::tensor_of(test::random_indices(tokens, 512, 1), {tokens});
  const ops::RopeShape shape = {d / 128, d / 128, 64, 10000.0, 1e-6};
  const Tensor qkv = random({tokens, 3 * d / 2});
  bench("rope in place", 3 * matrix,
        [&] { ops::rope({}, shape, qkv, positions, {}, {}, qkv, {}); });
}

void bench_loss(std::int64_t tokens, std::int64_t vocab) {
  const Tensor logits = random({tokens, vocab});
  const Tensor dlogits = random({tokens, vocab});
  const Tensor loss = random({tokens});
  const Tensor targets = test::tensor_of(test::random_indices(tokens, vocab, 1), {tokens});
  std::printf("tokens %lld, vocab %lld\n", static_cast<long long>(tokens),
              static_cast<long long>(vocab));
  bench("cross_entropy with gradient", 2.0 * static_cast<double>(tokens * vocab) * 4.0,
        [&] { ops::cross_entropy({}, logits, targets, loss, dlogits); });
}

void bench_router(std::int64_t tokens, std::int64_t experts, std::int64_t top_k) {
  const double matrix = static_cast<double>(tokens * experts) * 4.0;
  const Tensor z = random({tokens, experts});
  const Tensor s = random({tokens, experts});
  const Tensor dz = random({tokens, experts});
  const Tensor lse = random({tokens});
  const Tensor p_sum = random({experts});
  const Tensor indices({tokens, top_k}, DType::kInt32);
  const Tensor weights = random({tokens, top_k});
  const Tensor dweights = random({tokens, top_k});
  const auto kind = ops::RouteWeights::kRenormalized;
  std::printf("tokens %lld, experts %lld, top %lld\n", static_cast<long long>(tokens),
              static_cast<long long>(experts), static_cast<long long>(top_k));
  bench("router_score softmax", 2 * matrix,
        [&] { ops::router_score({}, ops::Score::kSoftmax, z, s, lse); });
  bench("router_score sigmoid", 2 * matrix,
        [&] { ops::router_score({}, ops::Score::kSigmoid, z, s, lse); });
  bench("topk", matrix, [&] { ops::topk({}, s, {}, indices); });
  bench("route_weights", matrix, [&] { ops::route_weights({}, kind, 1.0, s, indices, weights); });
  bench("router_backward", 3 * matrix, [&] {
    ops::router_backward({}, ops::Score::kSoftmax, kind, 1.0, z, s, lse, indices, weights, dweights,
                         {}, 1e-3, dz);
  });
  bench("router_probability_sums", matrix,
        [&] { ops::router_probability_sums({}, ops::Score::kSoftmax, s, p_sum); });
}

}  // namespace
}  // namespace witan

int main(int argc, char** argv) {
  if (argc > 1) witan::repetitions = std::atoi(argv[1]);
  witan::bench_attention(16, 128, 8, 8, 64);
  witan::bench_attention(16, 512, 8, 2, 64);
  witan::bench_attention(16, 64, 8, 8, 32);
  witan::bench_attention(4, 512, 4, 4, 128);
  witan::bench_rows(4096, 512);
  witan::bench_loss(1024, 32000);
  witan::bench_router(4096, 8, 2);
  witan::bench_router(4096, 64, 8);
}

// Attention on CUDA against its CPU twin: ordinary arithmetic in float32 and float64, and bfloat16
// on the tensor cores.
#include "core/ops/attention.h"

#include <gtest/gtest.h>

#include "core/ops/cuda/attention_choice.h"
#include "core/ops/elementwise.h"
#include "core/ops/sliding_window.h"
#include "core/tensor/cuda_scratch.h"
#include "tests/cuda/cuda_case.h"
#include "tests/support/tolerance.h"

namespace witan::test {
namespace {

struct Case {
  std::int64_t batch, seq_len, heads, kv_heads, head_dim;
  bool documents = false;
  std::int64_t v_dim = head_dim;
  std::int64_t window = 0;  // 0: none

  ops::AttentionShape shape() const {
    return {batch, seq_len, heads, kv_heads, head_dim, 1.0 / std::sqrt(double(head_dim)), v_dim};
  }
  std::int64_t tokens() const { return batch * seq_len; }
  std::int64_t width() const { return (heads + kv_heads) * head_dim + kv_heads * v_dim; }
  std::string name() const {
    return Shape{batch, seq_len, heads, kv_heads}.to_string() + " of " + std::to_string(head_dim) +
           " and " + std::to_string(v_dim) + (documents ? ", documents" : "") +
           (window > 0 ? ", a window of " + std::to_string(window) : "");
  }
};

// Beginnings of documents of uneven lengths, the last one long enough to hide whole tiles of keys.
std::vector<std::int32_t> first_keys_of(const Case& c) {
  std::vector<std::int32_t> first;
  for (std::int64_t t = 0; t < c.tokens(); ++t) {
    const std::int64_t at = t % c.seq_len;
    std::int64_t begin = 0;
    for (const std::int64_t start : {std::int64_t{3}, c.seq_len / 3, c.seq_len * 3 / 4}) {
      if (c.documents && start <= at && start > begin) begin = start;
    }
    if (c.window > 0) begin = std::max(begin, at - c.window + 1);
    first.push_back(static_cast<std::int32_t>(begin));
  }
  return first;
}

template <class T>
struct Results {
  std::vector<T> out, lse, dqkv;
  bool operator==(const Results&) const = default;
};

// Both directions on the context's device. The gradient is taken at `saved`'s out and lse where it
// is given, so that one direction's rounding does not show in the other.
template <class T>
Results<T> run(const Context& ctx, const Case& c, const Results<T>* saved = nullptr) {
  const auto put = [&](const auto& values, const Shape& of) {
    return transferred(ctx, view_of(values.data(), of), ctx.device);
  };
  const DType dtype = dtype_of<T>::value;
  const Shape rows{c.tokens(), c.width()};
  const Shape result{c.tokens(), c.heads * c.v_dim};
  const Shape per_head{c.tokens(), c.heads};
  const Tensor qkv = put(normal_values<T>(rows.size(), "qkv"), rows);
  const Tensor dout = put(normal_values<T>(result.size(), "dout"), result);
  const Tensor first_key = put(first_keys_of(c), {c.tokens()});
  const Tensor out(result, dtype, ctx.device);
  const Tensor lse(per_head, dtype, ctx.device);
  const Tensor delta(per_head, dtype, ctx.device);
  const Tensor dqkv(rows, dtype, ctx.device);
  if (ctx.device.is_cpu()) {  // what reads its operands as they are
    ops::round_operand(ctx, qkv);
    ops::round_operand(ctx, dout);
  }
  ops::attention(ctx, c.shape(), qkv, first_key, out, lse);
  Results<T> results = {to_host<T>(ctx, out), to_host<T>(ctx, lse), {}};
  if (saved != nullptr) {
    transfer(ctx, view_of(saved->out.data(), result), out);
    transfer(ctx, view_of(saved->lse.data(), per_head), lse);
  }
  ops::attention_backward(ctx, c.shape(), dout, qkv, first_key, out, lse, delta, dqkv);
  results.dqkv = to_host<T>(ctx, dqkv);
  return results;
}

class AttentionCuda : public CudaTest {
 protected:
  template <class T>
  void compare(Products products, const std::vector<Case>& cases, double tolerance_lse,
               double tolerance) {
    const DeviceStream stream(kCuda);
    Context ctx = stream.context();
    ctx.products = products;
    Context cpu;
    cpu.products = products;
    for (const Case& c : cases) {
      SCOPED_TRACE(c.name());
      const Results<T> expected = run<T>(cpu, c);
      Results<T> first;
      for (int order = 0; order < kOrders; ++order) {
        choose_order(order);
        const Results<T> found = run<T>(ctx, c, &expected);
        expect_close(found.lse, expected.lse, tolerance_lse, "lse");
        expect_close(found.out, expected.out, tolerance, "out");
        expect_close(found.dqkv, expected.dqkv, tolerance, "dqkv");
        if (order == 0) first = found;
        EXPECT_TRUE(found == first) << "other bits in another order of the threads";
      }
    }
    witan::cuda::release_scratch(ctx);
  }
};

// Around the tiles of 64 (float32) and 32 (float64) queries and keys, and heads wider than the
// columns of a block.
std::vector<Case> plain_cases() {
  return {{2, 0, 2, 1, 8},
          {1, 1, 1, 1, 1},
          {2, 5, 4, 2, 3, true},
          {1, 65, 2, 1, 40, true},
          {1, 33, 1, 1, 6, false, 20},
          {1, 97, 2, 2, 8, true, 3},
          {2, 150, 4, 2, 5, true, 4, 37},  // windows within a tile and across tiles
          {1, 140, 2, 1, 4, false, 4, 64},
          {1, 7, 1, 1, 3, false, 3, 1},
          {1, 9, 2, 1, 131, false, 140}};
}

TEST_F(AttentionCuda, PlainFloat32) {
  compare<float>(Products::kFull, plain_cases(), kFloat32AttentionTolerance,
                 kFloat32AttentionTolerance);
}

TEST_F(AttentionCuda, PlainFloat64) {
  compare<double>(Products::kFull, plain_cases(), kFloat64LevelTolerance, kFloat64LevelTolerance);
}

// Heads that the tensor cores do not take: operands rounded, probabilities as they are, which the
// CPU rounds too.
TEST_F(AttentionCuda, PlainWithBfloat16Operands) {
  compare<float>(Products::kBfloat16, {{1, 70, 2, 1, 12, true}, {1, 5, 1, 1, 16, false, 24}},
                 kFloat32AttentionTolerance, kBfloat16AttentionTolerance);
}

TEST_F(AttentionCuda, Bfloat16OnTensorCores) {
  compare<float>(Products::kBfloat16,
                 {{2, 0, 2, 1, 16},
                  {1, 1, 1, 1, 16},
                  {2, 5, 2, 1, 16, true},
                  {1, 150, 2, 1, 32, true},  // several tiles of both kinds, a group of heads
                  {1, 65, 1, 1, 64},         // one behind a whole tile
                  {1, 70, 1, 1, 80, true},
                  {1, 200, 4, 2, 16, false, 16, 30},  // whole tiles lie outside of the window
                  {2, 140, 2, 1, 32, true, 16, 65}},
                 kFloat32AttentionTolerance, kBfloat16AttentionTolerance);
}

// Heads of latent attention, and heads whose gradients two blocks share.
TEST_F(AttentionCuda, Bfloat16WideHeads) {
  compare<float>(Products::kBfloat16,
                 {{1, 35, 1, 1, 192, false, 128},
                  {1, 35, 1, 1, 256, true},
                  {2, 9, 2, 1, 144, true},
                  {1, 75, 1, 1, 128, false, 128, 9},
                  {1, 75, 1, 1, 192, false, 128, 9},
                  {1, 67, 1, 1, 256, false, 256, 5}},
                 kFloat32AttentionTolerance, kBfloat16AttentionTolerance);
}

TEST_F(AttentionCuda, FirstKeysOfAWindow) {
  const Case documents = {3, 50, 1, 1, 1, true};
  std::vector<Tensor> start;
  start.push_back(with_values(first_keys_of(documents), {documents.tokens()}));
  start.push_back(unwritten({documents.tokens()}, DType::kInt32));
  for (const std::int64_t window : {1, 7, 50, 60}) {
    expect_twins(start, 0.0, [&](const Context& ctx, const std::vector<TensorView>& t) {
      ops::narrow_to_window(ctx, window, documents.seq_len, t[0], t[1]);
    });
  }
}

TEST_F(AttentionCuda, WhichKernelsRun) {
  using ops::cuda::AttentionKernels;
  using ops::cuda::choose_attention_kernels;
  const auto chosen = [](Products products, DType dtype, std::int64_t head_dim,
                         std::int64_t v_dim) {
    return choose_attention_kernels(products, dtype, {1, 1, 1, 1, head_dim, 1.0, v_dim});
  };
  const auto plain = AttentionKernels::kPlain;
  EXPECT_EQ(chosen(Products::kBfloat16, DType::kFloat32, 128, 0), AttentionKernels::kTensorCores);
  EXPECT_EQ(chosen(Products::kBfloat16, DType::kFloat32, 192, 128), AttentionKernels::kTensorCores);
  EXPECT_EQ(chosen(Products::kFull, DType::kFloat32, 128, 0), plain);
  EXPECT_EQ(chosen(Products::kBfloat16, DType::kFloat64, 128, 0), plain);
  EXPECT_EQ(chosen(Products::kBfloat16, DType::kFloat32, 128, 24), plain);
  EXPECT_EQ(chosen(Products::kBfloat16, DType::kFloat32, 272, 0), plain);
}

template <class T>
class AttentionCachedCuda : public CudaTest {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(AttentionCachedCuda, Types);

TYPED_TEST(AttentionCachedCuda, EqualsTheCpuTwin) {
  using T = TypeParam;
  const double tolerance =
      std::is_same_v<T, float> ? kFloat32AttentionTolerance : kFloat64LevelTolerance;
  const DeviceStream stream(kCuda);
  const std::int64_t capacity = 80;
  // Decoding, and a prefill whose tiles begin between two heads of a token; values of their own,
  // and values that are parts of the keys; windows within a tile, and across tiles.
  for (const bool joined : {false, true}) {
    for (const auto& [seq_len, window] :
         {std::pair<std::int64_t, std::int64_t>{1, 0}, {25, 0}, {1, 7}, {25, 7}, {25, 70}}) {
      const ops::AttentionShape shape = {3, seq_len, 6, 2, 12, 0.3, joined ? 8 : 12, window};
      const std::vector<std::int32_t> lengths = {static_cast<std::int32_t>(seq_len), 80, 41};
      const auto out_on = [&](const Context& ctx) {
        const auto put = [&](const char* name, const Shape& of) {
          const auto values = normal_values<T>(of.size(), name);
          return transferred(ctx, view_of(values.data(), of), ctx.device);
        };
        const Tensor out({3 * seq_len, 6 * shape.value_dim()}, dtype_of<T>::value, ctx.device);
        const Tensor v_cache = joined ? Tensor() : put("v", {3, capacity, 2 * 12});
        ops::attention_cached(ctx, shape, put("q", {3 * seq_len, 6 * 12}),
                              put("k", {3, capacity, 2 * 12}), v_cache,
                              view_of(lengths.data(), {3}), out);
        return to_host<T>(ctx, out);
      };
      const auto expected = out_on({});
      for (int order = 0; order < kOrders; ++order) {
        this->choose_order(order);
        expect_close(out_on(stream.context()), expected, tolerance, "out");
      }
    }
  }
  witan::cuda::release_scratch(stream.context());
}

}  // namespace
}  // namespace witan::test

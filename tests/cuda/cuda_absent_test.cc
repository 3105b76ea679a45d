// A build without CUDA that is asked for it: every way in answers with the option that would be
// right.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/cuda/stream_cuda.h"
#include "core/base/device_timer.h"
#include "core/base/error.h"
#include "core/base/stream.h"
#include "core/ops/adamw.h"
#include "core/ops/attention.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/cuda/limits.h"
#include "core/ops/embedding.h"
#include "core/ops/gemm.h"
#include "core/ops/kv_append.h"
#include "core/ops/latent_heads.h"
#include "core/ops/norm.h"
#include "core/ops/permute.h"
#include "core/ops/rope.h"
#include "core/ops/sliding_window.h"
#include "core/ops/topk.h"
#include "core/tensor/tensor.h"
#include "core/tensor/transfer.h"

namespace witan::test {
namespace {

constexpr Device kCuda{DeviceType::kCuda, 0};

template <class Ask>
void expect_built_without_cuda(Ask&& ask) {
  try {
    ask();
    ADD_FAILURE() << "no error";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("configure with -DWITAN_CUDA=ON"), std::string::npos)
        << error.what();
  }
}

// A tensor that claims to be on the device; nothing may look behind its address.
TensorView claimed(const Shape& shape, DType dtype = DType::kFloat32) {
  static double memory[64];
  return {memory, shape, dtype, kCuda};
}

TEST(CudaAbsent, ResourcesAreRefused) {
  EXPECT_EQ(cuda::device_count(), 0);
  expect_built_without_cuda([] { const Tensor tensor({4}, DType::kFloat32, kCuda); });
  expect_built_without_cuda([] { const DeviceStream stream(kCuda); });
  expect_built_without_cuda([] { const DeviceEvent event(kCuda); });
  expect_built_without_cuda([] { const DeviceTimer timer(kCuda); });
  expect_built_without_cuda([] { cuda::device_properties(kCuda); });
  expect_built_without_cuda([] { synchronize(Context{kCuda, {}}); });
  expect_built_without_cuda([] { transfer(Context{kCuda, {}}, claimed({4}), claimed({4})); });
}

TEST(CudaAbsent, OpsAreRefused) {
  const Context ctx{kCuda, {}};
  const TensorView x = claimed({2, 3});
  const TensorView y{static_cast<std::byte*>(x.data) + 64, x.shape, x.dtype, x.device};
  const TensorView w = claimed({3});
  const TensorView rows = claimed({2});
  const TensorView index = claimed({2}, DType::kInt32);
  const TensorView lists = claimed({3}, DType::kInt32);
  expect_built_without_cuda([&] { ops::rmsnorm(ctx, x, w, 1e-5, x, rows); });
  expect_built_without_cuda(
      [&] { ops::rmsnorm_backward(ctx, x, x, w, rows, x, ops::Accumulate::kNo, w); });
  expect_built_without_cuda([&] { ops::adamw(ctx, {}, w, w, w, w); });
  expect_built_without_cuda([&] { ops::cuda::make_operand(ctx, x, y); });
  expect_built_without_cuda([&] { ops::cuda::bare_product(ctx, 1, x, x, y); });
  expect_built_without_cuda([&] { ops::gemm_nt(ctx, x, x, claimed({2, 2})); });
  expect_built_without_cuda([&] { ops::router_score(ctx, ops::Score::kSoftmax, x, y, rows); });
  expect_built_without_cuda([&] { ops::permute(ctx, x, index, x); });
  expect_built_without_cuda([&] { ops::permute_backward(ctx, x, index, x); });
  expect_built_without_cuda([&] { ops::unpermute_sum(ctx, x, lists, index, x); });
}

TEST(CudaAbsent, OpsOfTheModelAreRefused) {
  const Context ctx{kCuda, {}};
  const TensorView x = claimed({2, 3});
  const TensorView column = claimed({2, 1});
  const TensorView rows = claimed({2});
  const TensorView index = claimed({2}, DType::kInt32);
  expect_built_without_cuda([&] { ops::cross_entropy(ctx, x, index, rows, {}); });
  expect_built_without_cuda([&] { ops::embedding(ctx, index, x, x); });
  expect_built_without_cuda([&] { ops::embedding_backward(ctx, index, x, x); });

  const TensorView heads = claimed({2, 6});
  const ops::RopeShape rope = {1, 1, 2};
  expect_built_without_cuda([&] { ops::rope(ctx, rope, heads, index, {}, {}, heads, {}); });
  expect_built_without_cuda(
      [&] { ops::rope_backward(ctx, rope, heads, index, {}, {}, {}, {}, heads, {}, {}); });
  const ops::LatentShape latent = {1, 1, 2, 1};
  const TensorView pair = claimed({2, 2});
  const TensorView joined = claimed({2, 7});
  expect_built_without_cuda(
      [&] { ops::rotate_heads(ctx, latent, pair, 0, 1, 0, index, ops::Rotation::kBack); });
  expect_built_without_cuda([&] { ops::join_latent_heads(ctx, latent, x, pair, pair, joined); });
  expect_built_without_cuda(
      [&] { ops::join_latent_heads_backward(ctx, latent, joined, x, pair, pair); });

  const ops::AttentionShape attention = {1, 2, 1, 1, 1, 1.0};
  expect_built_without_cuda([&] { ops::attention(ctx, attention, x, index, column, column); });
  expect_built_without_cuda([&] {
    ops::attention_backward(ctx, attention, column, x, index, column, column, column, x);
  });
  expect_built_without_cuda([&] { ops::narrow_to_window(ctx, 1, 2, index, index); });
  const std::vector<std::int32_t> two = {2};
  const TensorView lengths = view_of(two.data(), {1});
  const TensorView cache = claimed({1, 2, 1});
  expect_built_without_cuda(
      [&] { ops::attention_cached(ctx, attention, column, cache, cache, lengths, column); });
  expect_built_without_cuda(
      [&] { ops::kv_append(ctx, attention, x, lengths, column, cache, cache); });
  expect_built_without_cuda([&] { ops::cache_append(ctx, column, lengths, cache); });
}

}  // namespace
}  // namespace witan::test

// Appending to caches on CUDA against the CPU twins.
#include "core/ops/kv_append.h"

#include <gtest/gtest.h>

#include "core/tensor/cuda_scratch.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

template <class T>
class KvAppendCuda : public CudaTest {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(KvAppendCuda, Types);

TYPED_TEST(KvAppendCuda, EqualsTheCpuTwin) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const std::int64_t capacity = 9;
  // Uneven lengths; heads whose rows are not a whole number of 16 bytes.
  const std::vector<std::int32_t> lengths = {4, 9, 5};
  for (const std::int64_t head_dim : {3, 8}) {
    const ops::AttentionShape shape = {3, 4, 4, 2, head_dim, 1.0, 0};
    const std::int64_t tokens = shape.batch * shape.seq_len;
    const Shape cache{shape.batch, capacity, shape.kv_heads * head_dim};
    const auto results_on = [&](const Context& ctx) {
      const auto put = [&](const char* name, const Shape& of) {
        const auto values = normal_values<T>(of.size(), name);
        return transferred(ctx, view_of(values.data(), of), ctx.device);
      };
      const TensorView length = view_of(lengths.data(), {shape.batch});
      const Tensor qkv = put("qkv", {tokens, 8 * head_dim});
      const Tensor q = put("q", {tokens, 4 * head_dim});
      const Tensor k_cache = put("k", cache);
      const Tensor v_cache = put("v", cache);
      const Tensor latent = put("latent", cache);
      ops::kv_append(ctx, shape, qkv, length, q, k_cache, v_cache);
      ops::cache_append(ctx, put("rows", {tokens, cache[2]}), length, latent);
      std::vector<std::vector<T>> results;
      for (const Tensor* x : {&q, &k_cache, &v_cache, &latent}) {
        results.push_back(to_host<T>(ctx, *x));
      }
      return results;
    };
    const auto expected = results_on({});
    for (int order = 0; order < kOrders; ++order) {
      this->choose_order(order);
      EXPECT_EQ(results_on(stream.context()), expected);
    }
  }
  witan::cuda::release_scratch(stream.context());
}

TYPED_TEST(KvAppendCuda, RefusesLengthsBeyondTheCapacity) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  const ops::AttentionShape shape = {1, 2, 1, 1, 4, 1.0, 0};
  const Tensor qkv = on_cuda(ctx, normal_values<T>(24, "qkv"), {2, 12});
  const Tensor q(Shape{2, 4}, dtype_of<T>::value, kCuda);
  const Tensor cache(Shape{1, 3, 4}, dtype_of<T>::value, kCuda);
  const std::vector<std::int32_t> too_long = {4};
  EXPECT_THROW(ops::kv_append(ctx, shape, qkv, view_of(too_long.data(), {1}), q, cache, cache),
               Error);
}

}  // namespace
}  // namespace witan::test

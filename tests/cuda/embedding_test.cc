// The embedding on CUDA against its CPU twin.
#include "core/ops/embedding.h"

#include <gtest/gtest.h>

#include "core/tensor/cuda_scratch.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

template <class T>
class EmbeddingCuda : public CudaTest {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(EmbeddingCuda, Types);

struct Case {
  std::int64_t count, vocab, d;
};
// Tokens that come once, often and not at all; more than a tile of the sort; rows of odd length.
const Case kCases[] = {{0, 5, 8}, {1, 1, 1}, {7, 3, 5}, {9, 40, 33}, {300, 11, 4}, {70, 5, 520}};

std::vector<std::int32_t> tokens_of(const Case& c) {
  const Random random(3, "test", "tokens");
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(c.count));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const double skewed = random.uniform(i) * random.uniform(i);
    tokens[i] = static_cast<std::int32_t>(skewed * static_cast<double>(c.vocab));
  }
  return tokens;
}

TYPED_TEST(EmbeddingCuda, TheSameBitsAsTheCpuTwin) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  for (const Case& c : kCases) {
    SCOPED_TRACE(Shape({c.count, c.vocab, c.d}).to_string());
    const Shape rows{c.count, c.d};
    const Shape table{c.vocab, c.d};
    const auto tokens = tokens_of(c);
    const auto w = normal_values<T>(table.size(), "w");
    const auto dy = normal_values<T>(rows.size(), "dy");
    std::vector<T> y(dy.size());
    std::vector<T> dw = w;
    ops::embedding({}, view_of(tokens.data(), {c.count}), view_of(w.data(), table),
                   view_of(y.data(), rows));
    ops::embedding_backward({}, view_of(tokens.data(), {c.count}), view_of(dy.data(), rows),
                            view_of(dw.data(), table));
    for (int order = 0; order < kOrders; ++order) {
      this->choose_order(order);
      const Tensor tokens_cuda = on_cuda(ctx, tokens, {c.count});
      const Tensor w_cuda = on_cuda(ctx, w, table);
      const Tensor y_cuda(rows, dtype_of<T>::value, kCuda);
      ops::embedding(ctx, tokens_cuda, w_cuda, y_cuda);
      ops::embedding_backward(ctx, tokens_cuda, on_cuda(ctx, dy, rows), w_cuda);
      EXPECT_EQ(to_host<T>(ctx, y_cuda), y);
      EXPECT_EQ(to_host<T>(ctx, w_cuda), dw);
    }
  }
  witan::cuda::release_scratch(ctx);
}

}  // namespace
}  // namespace witan::test

// Row movement on CUDA against its CPU twins. No arithmetic but sums in a stated order: the bits
// must be the same.
#include "core/ops/permute.h"

#include <gtest/gtest.h>

#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

struct Case {
  std::int64_t tokens, k, d;
};
// Rows of every piece size (16, 8 and 4 bytes), a single element, no tokens, no choices, and more
// than one block.
constexpr Case kCases[] = {{1, 1, 1},   {5, 2, 3},  {7, 1, 4}, {6, 3, 34}, {33, 2, 17},
                           {40, 8, 64}, {0, 2, 16}, {9, 0, 8}, {130, 2, 5}};

template <class T>
class PermuteCuda : public CudaTest {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(PermuteCuda, Types);

// A permutation of 0 .. size - 1.
std::vector<std::int32_t> permutation(std::int64_t size) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(size));
  if (size == 0) return values;
  const Permutation order(3, "test", 0, static_cast<std::uint64_t>(size));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int32_t>(order(i));
  return values;
}

TYPED_TEST(PermuteCuda, ForwardEqualsTheCpuTwin) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  for (const Case& c : kCases) {
    const Shape from{c.tokens, c.d};
    const Shape to{c.tokens * c.k, c.d};
    SCOPED_TRACE(to.to_string());
    const auto x = normal_values<T>(from.size(), "x");
    auto index = permutation(to[0]);
    for (auto& slot : index) slot /= static_cast<std::int32_t>(c.k);
    std::vector<T> y(static_cast<std::size_t>(to.size()));
    ops::permute(Context{}, view_of(x.data(), from), view_of(index.data(), {to[0]}),
                 view_of(y.data(), to));
    for (int order = 0; order < kOrders; ++order) {
      this->choose_order(order);
      const Tensor y_cuda(to, dtype_of<T>::value, kCuda);
      ops::permute(ctx, on_cuda(ctx, x, from), on_cuda(ctx, index, {to[0]}), y_cuda);
      EXPECT_EQ(to_host<T>(ctx, y_cuda), y);
    }
  }
}

TYPED_TEST(PermuteCuda, RowsOfTwoTensorsAndScatterEqualTheCpuTwins) {
  using T = TypeParam;
  for (const std::int64_t d : {1, 3, 8}) {
    for (const std::int64_t behind : {1, 5}) {
      const std::int64_t rows = 9;
      std::vector<std::int32_t> index;
      for (std::int64_t r = 0; r < rows; ++r) {
        index.push_back(static_cast<std::int32_t>((r * 5) % (4 + behind)));
      }
      std::vector<Tensor> tensors;
      tensors.push_back(normal<T>("first", {4, d}));
      tensors.push_back(normal<T>("second", {behind, d}));
      tensors.push_back(with_values(index, {rows}));
      tensors.push_back(unwritten({rows, d}, dtype_of<T>::value));
      tensors.push_back(with_values(std::vector<std::int32_t>{5, 0, 2, 6}, {4}));
      tensors.push_back(unwritten({7, d}, dtype_of<T>::value));
      this->expect_twins(tensors, 0.0, [](const Context& ctx, const std::vector<TensorView>& t) {
        ops::permute(ctx, t[0], t[1], t[2], t[3]);
        ops::scatter(ctx, t[0], t[4], t[5]);
      });
    }
  }
}

TYPED_TEST(PermuteCuda, BackwardEqualsTheCpuTwin) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  for (const Case& c : kCases) {
    const Shape shape{c.tokens * c.k, c.d};
    SCOPED_TRACE(shape.to_string());
    const auto dy = normal_values<T>(shape.size(), "dy");
    const auto index = permutation(shape[0]);
    std::vector<T> dx(dy.size());
    ops::permute_backward(Context{}, view_of(dy.data(), shape), view_of(index.data(), {shape[0]}),
                          view_of(dx.data(), shape));
    for (int order = 0; order < kOrders; ++order) {
      this->choose_order(order);
      const Tensor dx_cuda(shape, dtype_of<T>::value, kCuda);
      ops::permute_backward(ctx, on_cuda(ctx, dy, shape), on_cuda(ctx, index, {shape[0]}), dx_cuda);
      EXPECT_EQ(to_host<T>(ctx, dx_cuda), dx);
    }
  }
}

TYPED_TEST(PermuteCuda, UnpermuteSumEqualsTheCpuTwin) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  for (const Case& c : kCases) {
    for (const bool accumulate : {false, true}) {
      const Shape from{c.tokens * c.k, c.d};
      const Shape to{c.tokens, c.d};
      SCOPED_TRACE(from.to_string() + (accumulate ? ", accumulating" : ""));
      const auto x = normal_values<T>(from.size(), "x");
      const auto slots = permutation(from[0]);
      const auto before = normal_values<T>(to.size(), "y");
      std::vector<std::int32_t> lists;  // of k entries each
      for (std::int64_t t = 0; t <= c.tokens; ++t)
        lists.push_back(static_cast<std::int32_t>(t * c.k));
      const std::int64_t begins = c.tokens + 1;
      std::vector<T> y = before;
      ops::unpermute_sum(Context{}, view_of(x.data(), from), view_of(lists.data(), {begins}),
                         view_of(slots.data(), {from[0]}), view_of(y.data(), to), accumulate);
      for (int order = 0; order < kOrders; ++order) {
        this->choose_order(order);
        const Tensor y_cuda = on_cuda(ctx, before, to);
        ops::unpermute_sum(ctx, on_cuda(ctx, x, from), on_cuda(ctx, lists, {begins}),
                           on_cuda(ctx, slots, {from[0]}), y_cuda, accumulate);
        EXPECT_EQ(to_host<T>(ctx, y_cuda), y);
      }
    }
  }
}

// Rows may begin anywhere: a view from row 1 on is not aligned to 16 bytes when d is odd.
TYPED_TEST(PermuteCuda, TakesViewsThatBeginInsideATensor) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  const Shape whole{6, 3};
  const auto x = normal_values<T>(whole.size(), "x");
  const std::vector<std::int32_t> index{4, 0, 2, 1, 3};
  const Tensor x_cuda = on_cuda(ctx, x, whole);
  const Tensor y_cuda(whole, dtype_of<T>::value, kCuda);
  ops::permute(ctx, x_cuda.view().slice_rows(1, 5), on_cuda(ctx, index, {5}),
               y_cuda.view().slice_rows(1, 5));
  const auto y = to_host<T>(ctx, y_cuda.view().slice_rows(1, 5));
  for (std::size_t r = 0; r < 5; ++r) {
    for (std::size_t j = 0; j < 3; ++j) {
      EXPECT_EQ(y[r * 3 + j], x[(1 + static_cast<std::size_t>(index[r])) * 3 + j]);
    }
  }
}

}  // namespace
}  // namespace witan::test

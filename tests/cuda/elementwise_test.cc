// Element-wise ops on CUDA against their CPU twins: the same arithmetic, so the same bits, but for
// sums over rows.
#include "core/ops/elementwise.h"

#include <gtest/gtest.h>

#include "core/ops/columns.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

template <class T>
class ElementwiseCuda : public CudaTest {
 protected:
  static constexpr DType kType = dtype_of<T>::value;
  // Nothing, less than a piece of 16 bytes, pieces with and without a rest, and more than one
  // block.
  static std::vector<std::int64_t> sizes() { return {0, 1, 3, 16, 63, 2051}; }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ElementwiseCuda, Types);

TYPED_TEST(ElementwiseCuda, FillCopyCastAddAndScale) {
  using T = TypeParam;
  const DType other = std::is_same_v<T, float> ? DType::kFloat64 : DType::kFloat32;
  for (const std::int64_t n : this->sizes()) {
    SCOPED_TRACE(n);
    std::vector<Tensor> tensors;
    tensors.push_back(normal<T>("a", {n}));
    tensors.push_back(normal<T>("b", {n}));
    for (int i = 0; i < 3; ++i) tensors.push_back(unwritten({n}, this->kType));
    tensors.push_back(unwritten({n}, other));
    tensors.push_back(unwritten({n}, DType::kInt32));
    tensors.push_back(unwritten({n}, DType::kInt64));
    this->expect_twins(tensors, 0.0, [](const Context& ctx, const std::vector<TensorView>& t) {
      ops::fill(ctx, t[2], 0.1);
      ops::copy(ctx, t[0], t[3]);
      ops::add(ctx, t[0], t[1], t[4]);
      ops::add(ctx, t[1], t[0], t[1]);
      ops::cast(ctx, t[4], t[5]);
      ops::scale(ctx, t[0], 0.3);
      ops::fill(ctx, t[6], 7.0);
      ops::fill(ctx, t[7], -2.0);
    });
  }
}

// Views from row 1 on of odd rows are not aligned to 16 bytes.
TYPED_TEST(ElementwiseCuda, ViewsThatBeginInsideATensor) {
  using T = TypeParam;
  std::vector<Tensor> tensors;
  for (const char* name : {"a", "b", "y"}) tensors.push_back(normal<T>(name, {6, 3}));
  tensors.push_back(normal<T>("bias", {3}));
  this->expect_twins(
      tensors, 1e-6,
      [](const Context& ctx, const std::vector<TensorView>& t) {
        const auto inside = [&](int i) { return t[static_cast<std::size_t>(i)].slice_rows(1, 4); };
        ops::add(ctx, inside(0), inside(1), inside(2));
        ops::scale(ctx, inside(1), 2.5);
        ops::fill(ctx, inside(0), 4.0);
        ops::add_bias(ctx, inside(2), t[3]);
        ops::round_operand(ctx, inside(2));
      },
      Products::kBfloat16);
}

TYPED_TEST(ElementwiseCuda, RoundOperand) {
  using T = TypeParam;
  std::vector<T> values = normal_values<T>(203, "x");
  values[0] = static_cast<T>(1.00390625);  // halfway: to even
  values[1] = static_cast<T>(1.01171875);
  values[2] = static_cast<T>(-0.0);
  values[3] = static_cast<T>(1e-40);  // no normal number
  for (const Products products : {Products::kFull, Products::kBfloat16}) {
    std::vector<Tensor> tensors;
    tensors.push_back(with_values(values, {203}));
    this->expect_twins(
        tensors, 0.0,
        [](const Context& ctx, const std::vector<TensorView>& t) { ops::round_operand(ctx, t[0]); },
        products);
  }
}

TYPED_TEST(ElementwiseCuda, BiasAndItsBackward) {
  using T = TypeParam;
  const double tolerance = std::is_same_v<T, float> ? 1e-6 : 1e-14;
  for (const Shape& shape :
       {Shape{0, 4}, Shape{1, 1}, Shape{5, 8}, Shape{131, 33}, Shape{300, 64}}) {
    SCOPED_TRACE(shape.to_string());
    std::vector<Tensor> tensors;
    tensors.push_back(normal<T>("y", shape));
    tensors.push_back(normal<T>("bias", {shape[1]}));
    tensors.push_back(normal<T>("dbias", {shape[1]}));
    this->expect_twins(tensors, tolerance,
                       [](const Context& ctx, const std::vector<TensorView>& t) {
                         ops::add_bias(ctx, t[0], t[1]);
                         ops::bias_backward(ctx, t[0], t[2]);
                       });
  }
}

TYPED_TEST(ElementwiseCuda, CopyColumns) {
  using T = TypeParam;
  struct Case {
    std::int64_t rows, from, from_begin, to, to_begin, count;
  };
  for (const Case& c : {Case{5, 8, 4, 12, 8, 4}, Case{3, 7, 2, 5, 1, 3}, Case{9, 32, 0, 16, 0, 16},
                        Case{4, 6, 2, 8, 4, 0}, Case{0, 4, 0, 4, 0, 4}, Case{2, 10, 2, 10, 6, 2}}) {
    std::vector<Tensor> tensors;
    tensors.push_back(normal<T>("from", {c.rows, c.from}));
    tensors.push_back(normal<T>("to", {c.rows, c.to}));
    this->expect_twins(tensors, 0.0, [&](const Context& ctx, const std::vector<TensorView>& t) {
      ops::copy_columns(ctx, t[0], c.from_begin, t[1], c.to_begin, c.count);
    });
  }
}

}  // namespace
}  // namespace witan::test

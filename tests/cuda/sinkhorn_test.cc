// Sinkhorn's iterations on CUDA against their CPU twin.
#include "core/ops/sinkhorn.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "core/ops/topk.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

template <class T>
class SinkhornCuda : public CudaTest {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(SinkhornCuda, Types);

// p is of float64 on both devices; only the order of sums is another.
constexpr double kTolerance = 1e-13;

TYPED_TEST(SinkhornCuda, EqualsTheCpuTwin) {
  using T = TypeParam;
  for (const std::int64_t iterations : {0, 1, 8}) {
    for (const Shape& shape :
         {Shape{0, 4}, Shape{1, 1}, Shape{6, 1}, Shape{5, 40}, Shape{140, 6}}) {
      SCOPED_TRACE(testing::Message() << iterations << " iterations over " << shape.to_string());
      std::vector<T> z = normal_values<T>(shape.size(), "z");
      for (std::size_t i = 1; shape[1] > 1 && i < z.size(); i += 5) {
        z[i] = -std::numeric_limits<T>::infinity();
      }
      std::vector<Tensor> tensors;
      tensors.push_back(with_values(z, shape));
      tensors.push_back(unwritten(shape, DType::kFloat64));
      this->expect_twins(tensors, kTolerance,
                         [&](const Context& ctx, const std::vector<TensorView>& t) {
                           ops::sinkhorn(ctx, t[0], iterations, t[1]);
                         });
    }
  }
}

// Scores that are all the same stay the same, so the choice hangs on no rounding. A column that
// nobody may use is no division by 0.
TYPED_TEST(SinkhornCuda, EqualScoresGiveTheChoicesOfTheCpu) {
  using T = TypeParam;
  std::vector<T> z(33 * 7, T{2});
  for (std::size_t i = 0; i < z.size(); i += 7) z[i] = -std::numeric_limits<T>::infinity();
  std::vector<Tensor> tensors;
  tensors.push_back(with_values(z, {33, 7}));
  tensors.push_back(unwritten({33, 7}, DType::kFloat64));
  tensors.push_back(unwritten({33, 3}, DType::kInt32));
  this->expect_twins(tensors, kTolerance,
                     [&](const Context& ctx, const std::vector<TensorView>& t) {
                       ops::sinkhorn(ctx, t[0], 8, t[1]);
                       ops::topk(ctx, t[1], {}, t[2]);
                     });
}

}  // namespace
}  // namespace witan::test

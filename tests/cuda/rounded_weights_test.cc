// Copies of weights in bfloat16: the same bits as rounding at every product, and never stale ones.
#include "core/ops/rounded_weights.h"

#include <gtest/gtest.h>

#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"
#include "core/ops/grouped_gemm.h"
#include "core/tensor/cuda_scratch.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

constexpr std::int64_t kRows = 11;
constexpr std::int64_t kN = 5;
constexpr std::int64_t kK = 9;
constexpr std::int64_t kGroups = 3;
constexpr std::int64_t kBankBegin = 64;     // of the experts' matrices; before it a gap
constexpr std::int64_t kValues = 64 + 144;  // [kGroups, kN, kK] = 135, and padding

class RoundedWeightsCuda : public CudaTest {
 protected:
  RoundedWeightsCuda() {
    ctx_.products = Products::kBfloat16;
    values_ = on_cuda(ctx_, normal_values<float>(kValues, "values"), {kValues});
    x_ = on_cuda(ctx_, normal_values<float>(kRows * kK, "x"), {kRows, kK});
    dy_ = on_cuda(ctx_, normal_values<float>(kRows * kN, "dy"), {kRows, kN});
  }
  void TearDown() override {
    for (Tensor* tensor : {&values_, &x_, &dy_}) *tensor = Tensor();
    witan::cuda::release_scratch(ctx_);
    CudaTest::TearDown();
  }

  TensorView matrix() const { return values_.view().slice_rows(0, kN * kK).reshape({kN, kK}); }
  TensorView bank() const {
    return values_.view().slice_rows(kBankBegin, kGroups * kN * kK).reshape({kGroups, kN, kK});
  }
  static std::vector<ops::RoundedWeights::Span> spans() {
    return {{0, kN * kK}, {kBankBegin, kGroups * kN * kK}};
  }

  // Everything that reads the weights, one result behind the other.
  std::vector<float> products() {
    const std::vector<std::int64_t> offsets = {1, 4, 4, 10};
    std::vector<float> all;
    const auto keep = [&](const Shape& shape, const auto& multiply) {
      const Tensor result(shape, DType::kFloat32, kCuda);
      ops::fill(ctx_, result, 0.0);
      multiply(result.view());
      for (const float value : to_host<float>(ctx_, result)) all.push_back(value);
    };
    keep({kRows, kN}, [&](const TensorView& y) { ops::gemm_nt(ctx_, x_, matrix(), y); });
    keep({kRows, kK}, [&](const TensorView& dx) { ops::gemm_nn(ctx_, dy_, matrix(), dx); });
    keep({kRows, 3}, [&](const TensorView& y) {  // rows of a weight
      ops::gemm_nt(ctx_, x_, matrix().slice_rows(2, 3), y);
    });
    keep({kRows, kN},
         [&](const TensorView& y) { ops::grouped_gemm_nt(ctx_, x_, offsets, bank(), y); });
    keep({kRows, kK}, [&](const TensorView& dx) {
      const Tensor dw({kGroups, kN, kK}, DType::kFloat32, kCuda);
      ops::fill(ctx_, dw, 0.0);
      ops::grouped_gemm_backward(ctx_, dy_, offsets, x_, bank(), dx, dw);
    });
    return all;
  }

  void write(const std::string& name) {
    const std::vector<float> values = normal_values<float>(kValues, name);
    transfer(ctx_, view_of(values.data(), {kValues}), values_);
  }

  DeviceStream stream_{kCuda};
  Context ctx_ = stream_.context();
  Tensor values_, x_, dy_;
};

TEST_F(RoundedWeightsCuda, GiveTheBitsOfRoundingAtEveryProduct) {
  const std::vector<float> expected = products();
  ops::RoundedWeights rounded(values_, spans());
  EXPECT_EQ(ops::find_rounded(matrix()), nullptr);  // stale at first
  EXPECT_EQ(products(), expected);
  rounded.refresh(ctx_);
  EXPECT_NE(ops::find_rounded(matrix()), nullptr);
  EXPECT_NE(ops::find_rounded(bank().slice_rows(1, 2)), nullptr);
  EXPECT_EQ(products(), expected);
}

TEST_F(RoundedWeightsCuda, AChangedWeightIsSeenWithAndWithoutARefresh) {
  ops::RoundedWeights rounded(values_, spans());
  rounded.refresh(ctx_);
  const std::vector<float> before = products();

  // Behind its back: the products still show the old weights, so they do read the copies.
  write("changed");
  EXPECT_EQ(products(), before);

  rounded.invalidate();
  const std::vector<float> unrefreshed = products();
  EXPECT_NE(unrefreshed, before);
  rounded.refresh(ctx_);
  EXPECT_EQ(products(), unrefreshed);
}

TEST_F(RoundedWeightsCuda, NothingElseIsFound) {
  {
    ops::RoundedWeights rounded(values_, spans());
    rounded.refresh(ctx_);
    EXPECT_EQ(ops::find_rounded(x_), nullptr);
    EXPECT_EQ(ops::find_rounded(values_.view().slice_rows(kN * kK, 4)), nullptr);  // the gap
    EXPECT_EQ(ops::find_rounded(values_.view().slice_rows(40, 30)), nullptr);  // reaches into it
    EXPECT_EQ(rounded.bytes(), 2u * (48 + 144));
  }
  EXPECT_EQ(ops::find_rounded(matrix()), nullptr);
}

TEST_F(RoundedWeightsCuda, NeighboursAreOneRun) {
  ops::RoundedWeights rounded(values_, {{0, kN * kK}, {48, 10}, {64, 144}});
  rounded.refresh(ctx_);
  EXPECT_EQ(rounded.bytes(), 2u * kValues);
  const std::uint16_t* first = ops::find_rounded(matrix());
  EXPECT_EQ(ops::find_rounded(bank()), first + kBankBegin);
}

}  // namespace
}  // namespace witan::test

// Activations on CUDA against their CPU twins.
#include "core/ops/activation.h"

#include <gtest/gtest.h>

#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

using ops::Activation;
using ops::SwigluOptions;

template <class T>
class ActivationCuda : public CudaTest {
 protected:
  // The exponential of either side is good to a few units in the last place.
  static constexpr double kTolerance = std::is_same_v<T, float> ? 2e-6 : 2e-14;
  static constexpr DType kType = dtype_of<T>::value;

  static void expect_both(Activation kind, const SwigluOptions& options, const Shape& h,
                          bool weighted) {
    SCOPED_TRACE(testing::Message() << "kind " << static_cast<int>(kind) << ", " << h.to_string()
                                    << (weighted ? ", weighted" : ""));
    const Shape in{h[0], h[1] * ops::input_factor(kind)};
    std::vector<Tensor> tensors;
    tensors.push_back(normal<T>("in", in));
    tensors.push_back(normal<T>("weight", {h[0]}));
    tensors.push_back(normal<T>("dh", h));
    tensors.push_back(unwritten(h, kType));
    tensors.push_back(unwritten(in, kType));
    tensors.push_back(weighted ? unwritten({h[0]}, kType) : normal<T>("unused", {h[0]}));
    CudaTest::expect_twins(
        tensors, kTolerance, [&](const Context& ctx, const std::vector<TensorView>& t) {
          const TensorView weight = weighted ? t[1] : TensorView{};
          const TensorView dweight = weighted ? t[5] : TensorView{};
          ops::activation(ctx, kind, t[0], weight, t[3], options);
          ops::activation_backward(ctx, kind, t[0], weight, t[2], t[4], dweight, options);
          // In place.
          ops::activation_backward(ctx, kind, t[0], weight, t[2], t[0], dweight, options);
        });
  }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ActivationCuda, Types);

TYPED_TEST(ActivationCuda, EveryKindEqualsItsCpuTwin) {
  for (const Activation kind : {Activation::kSwiglu, Activation::kSilu, Activation::kRelu,
                                Activation::kGelu, Activation::kGeluTanh}) {
    for (const bool weighted : {false, true}) {
      for (const Shape& h : {Shape{0, 8}, Shape{3, 1}, Shape{5, 33}, Shape{2, 64}}) {
        this->expect_both(kind, {}, h, weighted);
      }
    }
  }
  this->expect_both(Activation::kSwiglu, {}, {2, 1100}, true);  // more than one piece a thread
}

TYPED_TEST(ActivationCuda, SwigluWithOptions) {
  for (const SwigluOptions& options : {SwigluOptions{1.0, 1.702, 7.0}, SwigluOptions{0.5, 1.0, 0.4},
                                       SwigluOptions{0.0, 1.3, 0.0}}) {
    this->expect_both(Activation::kSwiglu, options, {4, 20}, true);
  }
}

}  // namespace
}  // namespace witan::test

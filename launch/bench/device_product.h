// The dense product that a GPU's arithmetic is measured by.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/context.h"
#include "core/tensor/tensor.h"

namespace witan {

// c = a b^T of squares so large that every multiprocessor has its share (64 rows times their
// number), through cuBLAS, operands ready in the type that it multiplies.
class DeviceProduct {
 public:
  // In the precision of ctx.products and dtype. ctx is on a GPU.
  DeviceProduct(const Context& ctx, DType dtype);

  void run() const;
  double flop() const;       // of one run
  std::string name() const;  // "cuBLAS bf16, 8448 x 8448 x 8448"

 private:
  Context ctx_;
  std::int64_t side_;
  Tensor a_, b_, c_;  // [side, side]
};

// "float32", "float64" or "bf16"
std::string precision_name(const Context& ctx, DType dtype);

// Fills x with normal numbers (the same ones again and again): products of zeros would draw less
// power, and run faster, than those of a model.
void fill_with_noise(const Context& ctx, const TensorView& x);

}  // namespace witan

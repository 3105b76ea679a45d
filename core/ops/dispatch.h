// What every op's .cc shares: checks of its operands, and the choice between the CPU and CUDA
// twins.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// Throws a UserError that names the op where the context stands on a CUDA device and this build has
// no CUDA twin to call.
void require_cpu(const Context& ctx, const char* op);

// Throws unless `x` has this type and shape and lives on the context's device. `name` is the
// operand's name in the op's header. An operand without elements needs no memory.
void check_operand(const Context& ctx, const char* op, const char* name, const TensorView& x,
                   DType dtype, const Shape& shape);

// The same of an operand of a matrix product whose result, or of an operand's maker whose input is
// of type `dtype`. Where bfloat16 is how operands are stored (gemm.h), that will do too.
void check_factor(const Context& ctx, const char* op, const char* name, const TensorView& x,
                  DType dtype, const Shape& shape);

// f(T{}, Y{}) with the types of an op's input and of a result that check_factor() has passed.
template <class F>
void dispatch_stored(DType input, DType result, const F& f) {
  if (input == DType::kFloat64) return f(double{}, double{});
  if (result == DType::kBfloat16) return f(float{}, Bfloat16{});
  f(float{}, float{});
}

// The rank and the floating type of the operand from which the other shapes are derived.
void check_float(const char* op, const char* name, const TensorView& x, int rank);

}  // namespace witan::ops

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

// The rank and the floating type of the operand from which the other shapes are derived.
void check_float(const char* op, const char* name, const TensorView& x, int rank);

}  // namespace witan::ops

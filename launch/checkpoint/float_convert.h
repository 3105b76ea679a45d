// Between the float formats of files and of memory. Files give no alignment.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/dtype.h"
#include "launch/checkpoint/safetensors.h"

namespace witan {

// F64, F32, F16 and BF16.
bool is_float(StDType dtype);

// The file format that holds values of this dtype (float32 or float64) bit for bit.
StDType st_dtype_of(DType dtype);

// `count` values at `from` into `to`, rounded to nearest (ties to even) where `to` is narrower.
// `to` is F64, F32 or BF16, or the format of `from` (a copy).
void convert_floats(StDType from_dtype, const void* from, StDType to_dtype, void* to,
                    std::int64_t count);

}  // namespace witan

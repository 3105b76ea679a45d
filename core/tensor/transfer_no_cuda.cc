#include "core/base/cuda/built_without_cuda.h"
#include "core/tensor/transfer_cuda.h"

namespace witan::cuda {

void copy_bytes(Stream, const void*, void*, std::size_t) { throw_built_without_cuda("a copy"); }

}  // namespace witan::cuda

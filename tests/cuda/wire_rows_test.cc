// Rows packed for other ranks on CUDA against the CPU's: the same bits.
#include "core/ops/wire_rows.h"

#include <gtest/gtest.h>

#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

template <class T>
class WireRowsCuda : public CudaTest {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(WireRowsCuda, Types);

TYPED_TEST(WireRowsCuda, PackAndUnpackEqualTheCpuTwins) {
  using T = TypeParam;
  using ops::WireFormat;
  for (const std::int64_t d : {1, 6, 33}) {
    for (const WireFormat format : {WireFormat::kAsIs, WireFormat::kBfloat16}) {
      if (format == WireFormat::kBfloat16 && !std::is_same_v<T, float>) continue;
      SCOPED_TRACE(d);
      const std::int64_t bytes = ops::wire_row_bytes(format, dtype_of<T>::value, d);
      std::vector<Tensor> tensors;
      tensors.push_back(normal<T>("x", {7, d}));
      tensors.push_back(with_values(std::vector<std::int32_t>{6, 0, 3, 3}, {4}));
      tensors.push_back(unwritten({4, bytes / 4}, DType::kInt32));
      tensors.push_back(unwritten({7, bytes / 4}, DType::kInt32));
      tensors.push_back(unwritten({7, d}, dtype_of<T>::value));
      this->expect_twins(tensors, 0.0, [&](const Context& ctx, const std::vector<TensorView>& t) {
        auto* picked = static_cast<std::byte*>(t[2].data);
        auto* all = static_cast<std::byte*>(t[3].data);
        ops::pack_rows(ctx, t[0], t[1], format, picked);
        ops::pack_all_rows(ctx, t[0], format, all);
        ops::unpack_rows(ctx, all, format, t[4]);
      });
    }
  }
}

}  // namespace
}  // namespace witan::test

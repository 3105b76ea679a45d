#include "tests/cuda/cuda_case.h"

#include <cstring>

#include "core/tensor/cuda_scratch.h"

namespace witan::test {
namespace {

std::vector<Tensor> copies(const Context& ctx, const std::vector<Tensor>& from, Device device) {
  std::vector<Tensor> to;
  for (const Tensor& tensor : from) to.push_back(transferred(ctx, tensor, device));
  return to;
}

std::vector<TensorView> views(const std::vector<Tensor>& tensors) {
  return {tensors.begin(), tensors.end()};
}

template <class T>
std::vector<T> values_of(const Tensor& tensor) {
  return {tensor.as<T>(), tensor.as<T>() + tensor.view().size()};
}

void expect_agree(const Tensor& found, const Tensor& expected, double tolerance,
                  const std::string& what) {
  switch (expected.view().dtype) {
    case DType::kFloat32:
      return expect_close(values_of<float>(found), values_of<float>(expected), tolerance, what);
    case DType::kFloat64:
      return expect_close(values_of<double>(found), values_of<double>(expected), tolerance, what);
    case DType::kInt32:
      EXPECT_EQ(values_of<std::int32_t>(found), values_of<std::int32_t>(expected)) << what;
      return;
    case DType::kInt64:
      EXPECT_EQ(values_of<std::int64_t>(found), values_of<std::int64_t>(expected)) << what;
      return;
    case DType::kBfloat16: FAIL() << what << ": operands in bfloat16 are for the CPU";
  }
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.view().bytes() == 0 || std::memcmp(a.view().data, b.view().data, a.view().bytes()) == 0;
}

}  // namespace

Tensor unwritten(const Shape& shape, DType dtype) {
  Tensor tensor(shape, dtype);
  if (tensor.view().bytes() > 0) std::memset(tensor.view().data, 0xff, tensor.view().bytes());
  return tensor;
}

void CudaTest::expect_twins(const std::vector<Tensor>& start, double tolerance, const CallOp& op,
                            Products products) {
  const Context cpu{Device{}, {}, products};
  const std::vector<Tensor> expected = copies(cpu, start, Device{});
  op(cpu, views(expected));

  const DeviceStream stream(kCuda);
  Context cuda = stream.context();
  cuda.products = products;
  std::vector<Tensor> first;
  for (int order = 0; order < kOrders; ++order) {
    choose_order(order);
    const std::vector<Tensor> tensors = copies(cuda, start, kCuda);
    op(cuda, views(tensors));
    std::vector<Tensor> found = copies(cuda, tensors, Device{});
    for (std::size_t i = 0; i < found.size(); ++i) {
      const std::string what = "tensor " + std::to_string(i);
      expect_agree(found[i], expected[i], tolerance, what);
      EXPECT_TRUE(order == 0 || same_bits(found[i], first[i]))
          << what << ": other bits in another order of the threads";
    }
    if (order == 0) first = std::move(found);
  }
  witan::cuda::release_scratch(cuda);
}

}  // namespace witan::test

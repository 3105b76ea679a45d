// The GPU's side of cuda_case.h, and a main that says when there is none.
#include "tests/cuda/cuda_case.h"
#include "tests/cuda/gpu_absent.h"

namespace witan::test {

void CudaTest::choose_order(int) {}  // the hardware chooses

void CudaTest::TearDown() { EXPECT_EQ(allocation_stats(DeviceType::kCuda).bytes_in_use, 0); }

}  // namespace witan::test

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (witan::test::gpu_absent()) return witan::test::kNotRun;
  return RUN_ALL_TESTS();
}

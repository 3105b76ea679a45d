// The GPU's side of cuda_case.h, and a main that says when there is none: exit code 77 is shown by
// ctest as skipped, never as passed.
#include <cstdio>

#include "core/base/cuda/stream_cuda.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {

void CudaTest::choose_order(int) {}  // the hardware chooses

void CudaTest::TearDown() { EXPECT_EQ(allocation_stats(DeviceType::kCuda).bytes_in_use, 0); }

}  // namespace witan::test

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (witan::cuda::device_count() == 0) {
    std::printf("not run: this machine has no CUDA device\n");
    return 77;
  }
  return RUN_ALL_TESTS();
}

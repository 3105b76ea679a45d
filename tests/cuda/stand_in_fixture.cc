#include "tests/cuda/cuda_case.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {

void CudaTest::choose_order(int order) {
  cuda_on_cpu::set_seed(static_cast<std::uint64_t>(order) + 1);
}

void CudaTest::TearDown() {
  for (const std::string& fault : cuda_on_cpu::take_faults()) ADD_FAILURE() << fault;
  EXPECT_EQ(cuda_on_cpu::live_allocations(), 0u);
}

}  // namespace witan::test

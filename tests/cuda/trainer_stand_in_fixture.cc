#include "tests/cuda/trainer_cuda_case.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {

void OnGpus::SetUp() { cuda_on_cpu::set_device_count(world().size()); }

void OnGpus::TearDown() {
  for (const std::string& fault : cuda_on_cpu::take_faults()) ADD_FAILURE() << fault;
}

}  // namespace witan::test

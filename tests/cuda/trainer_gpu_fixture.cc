// The GPU's side of trainer_cuda_case.h, and a main that says when there is none.
#include <mpi.h>

#include "tests/cuda/gpu_absent.h"
#include "tests/cuda/trainer_cuda_case.h"

namespace witan::test {

void OnGpus::SetUp() {}
void OnGpus::TearDown() {}

}  // namespace witan::test

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (witan::test::gpu_absent()) return witan::test::kNotRun;
  int provided = MPI_THREAD_SINGLE;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  const int failed = RUN_ALL_TESTS();
  MPI_Finalize();
  return failed;
}

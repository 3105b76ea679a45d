// The GPU's side of trainer_cuda_case.h, and a main that says when there is none: exit code 77 is
// shown by ctest as skipped, never as passed.
#include <mpi.h>

#include <cstdio>

#include "core/base/cuda/stream_cuda.h"
#include "tests/cuda/trainer_cuda_case.h"

namespace witan::test {

void OnGpus::SetUp() {}
void OnGpus::TearDown() {}

}  // namespace witan::test

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (witan::cuda::device_count() == 0) {
    std::printf("not run: this machine has no CUDA device\n");
    return 77;
  }
  int provided = MPI_THREAD_SINGLE;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  const int failed = RUN_ALL_TESTS();
  MPI_Finalize();
  return failed;
}

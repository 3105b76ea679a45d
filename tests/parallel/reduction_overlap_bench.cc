// Is a gradient reduction faster when it begins before the last of the backward is done?
//   mpirun -n 2 parallel_reduction_overlap_bench [repeats]
// The rest of the backward is a matrix product in slices; between two of them a rank may look into
// MPI, which moves data only while somebody does. The sides take turns; medians of the slowest
// rank.
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "core/ops/gemm.h"
#include "core/tensor/tensor.h"
#include "parallel/mesh.h"

namespace witan {
namespace {

constexpr int kSlices = 24;
constexpr std::int64_t kWidth = 512;

double seconds_of(const std::function<void()>& run) {
  MPI_Barrier(MPI_COMM_WORLD);
  const auto start = std::chrono::steady_clock::now();
  run();
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return seconds;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Tensor zeros(const Shape& shape) {
  Tensor tensor(shape, DType::kFloat32);
  std::fill_n(tensor.view().as<float>(), shape.size(), 0.0F);
  return tensor;
}

class Case {
 public:
  Case(const Mesh& mesh, std::int64_t elements)
      : world_(mesh.world()),
        gradients_(zeros({elements})),
        x_(zeros({kWidth, kWidth})),
        w_(zeros({kWidth, kWidth})),
        y_(zeros({kWidth, kWidth})) {}

  void behind() {
    for (int i = 0; i < kSlices; ++i) slice();
    begin().wait();
  }
  void during(bool look) {
    Request request = begin();
    for (int i = 0; i < kSlices; ++i) {
      slice();
      int arrived = 0;
      if (look)
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &arrived, MPI_STATUS_IGNORE);
    }
    request.wait();
  }
  void alone() { begin().wait(); }

 private:
  void slice() { ops::gemm_nt({}, x_, w_, y_); }
  Request begin() {
    const std::int64_t part = gradients_.view().size() / world_.size();
    return world_.reduce_scatter_sum(gradients_,
                                     gradients_.view().slice_rows(part * world_.rank(), part));
  }
  Communicator& world_;
  Tensor gradients_, x_, w_, y_;
};

void bench(const Mesh& mesh, std::int64_t elements, int repeats) {
  Case one(mesh, elements);
  std::vector<double> seconds[4];
  for (int i = -2; i < repeats; ++i) {
    const double found[] = {
        seconds_of([&] { one.behind(); }), seconds_of([&] { one.during(false); }),
        seconds_of([&] { one.during(true); }), seconds_of([&] { one.alone(); })};
    for (std::size_t side = 0; side < 4 && i >= 0; ++side) seconds[side].push_back(found[side]);
  }
  if (mesh.world_rank() != 0) return;
  std::printf(
      "%3lld MiB over %d ranks: behind %.1f ms; during x %.2f; during, looking into MPI x "
      "%.2f; the reduction alone %.1f ms\n",
      static_cast<long long>(elements * 4 >> 20), mesh.world_size(), median(seconds[0]) * 1e3,
      median(seconds[0]) / median(seconds[1]), median(seconds[0]) / median(seconds[2]),
      median(seconds[3]) * 1e3);
}

}  // namespace
}  // namespace witan

int main(int argc, char** argv) {
  const witan::MpiEnvironment mpi(&argc, &argv);
  const witan::Mesh mesh(mpi, 1, 60.0);
  const int repeats = argc > 1 ? std::atoi(argv[1]) : 21;
  for (const std::int64_t mib : {1, 8, 64}) witan::bench(mesh, mib << 18, repeats);
}

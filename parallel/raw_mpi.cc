#include "parallel/raw_mpi.h"

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "parallel/mpi_communicator.h"

namespace witan {
namespace {

// What MPI takes: 32-bit counts and offsets.
struct Parts {
  Parts(std::span<const std::int64_t> rows, std::int64_t row, std::size_t floats) {
    std::int64_t offset = 0;
    for (const std::int64_t count : rows) {
      counts.push_back(static_cast<int>(count * row));
      offsets.push_back(static_cast<int>(offset));
      offset += count * row;
    }
    WITAN_CHECK(offset <= static_cast<std::int64_t>(floats) && offset < INT32_MAX, "rows of ",
                offset, " floats in a buffer of ", floats);
  }
  std::vector<int> counts, offsets;
};

}  // namespace

struct RawMpi::Impl {
  MPI_Comm world = MPI_COMM_NULL;
  MPI_Comm node = MPI_COMM_NULL;
  MPI_Win window = MPI_WIN_NULL;
  int node_rank = 0, node_size = 1;
  std::int64_t floats = 0;       // of each pair of ranks
  std::vector<float*> segments;  // by rank of this node: what it reads

  void close_windows() {
    if (window != MPI_WIN_NULL) MPI_Win_free(&window);
    segments.clear();
  }
};

RawMpi::RawMpi(const MpiEnvironment& mpi) : impl_(std::make_unique<Impl>()) {
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &impl_->world), "MPI_Comm_dup");
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, mpi.rank(), MPI_INFO_NULL,
                                &impl_->node),
            "MPI_Comm_split_type");
  MPI_Comm_rank(impl_->node, &impl_->node_rank);
  MPI_Comm_size(impl_->node, &impl_->node_size);
}

RawMpi::~RawMpi() {
  impl_->close_windows();
  MPI_Comm_free(&impl_->node);
  MPI_Comm_free(&impl_->world);
}

void RawMpi::all_to_all_v(std::span<const float> from, std::span<const std::int64_t> send_rows,
                          std::span<float> to, std::span<const std::int64_t> recv_rows,
                          std::int64_t row) const {
  const Parts send(send_rows, row, from.size());
  const Parts recv(recv_rows, row, to.size());
  check_mpi(
      MPI_Alltoallv(from.data(), send.counts.data(), send.offsets.data(), MPI_FLOAT, to.data(),
                    recv.counts.data(), recv.offsets.data(), MPI_FLOAT, impl_->world),
      "MPI_Alltoallv");
}

void RawMpi::open_windows(std::int64_t floats) {
  impl_->close_windows();
  impl_->floats = floats;
  const auto bytes =
      static_cast<MPI_Aint>(floats * impl_->node_size) * static_cast<MPI_Aint>(sizeof(float));
  void* mine = nullptr;
  check_mpi(MPI_Win_allocate_shared(bytes, sizeof(float), MPI_INFO_NULL, impl_->node,
                                    static_cast<void*>(&mine), &impl_->window),
            "MPI_Win_allocate_shared");
  std::memset(mine, 0, static_cast<std::size_t>(bytes));
  check_mpi(MPI_Barrier(impl_->node), "MPI_Barrier");  // nobody writes before it is empty
  for (int rank = 0; rank < impl_->node_size; ++rank) {
    MPI_Aint size = 0;
    int unit = 0;
    void* segment = nullptr;
    check_mpi(MPI_Win_shared_query(impl_->window, rank, &size, &unit, static_cast<void*>(&segment)),
              "MPI_Win_shared_query");
    impl_->segments.push_back(static_cast<float*>(segment));
  }
}

void RawMpi::write_windows(std::span<const float> from) const {
  WITAN_CHECK(static_cast<std::int64_t>(from.size()) >= impl_->floats * impl_->node_size,
              "windows of ", impl_->floats, " floats written from ", from.size());
  for (int step = 1; step < impl_->node_size; ++step) {  // each rank begins with another one
    const int peer = (impl_->node_rank + step) % impl_->node_size;
    std::copy_n(from.data() + peer * impl_->floats, impl_->floats,
                impl_->segments[static_cast<std::size_t>(peer)] + impl_->node_rank * impl_->floats);
  }
}

std::span<const float> RawMpi::own_window() const {
  return {impl_->segments.at(static_cast<std::size_t>(impl_->node_rank)),
          static_cast<std::size_t>(impl_->floats * impl_->node_size)};
}

void RawMpi::quiet_barrier() const {
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibarrier(impl_->world, &request), "MPI_Ibarrier");
  int done = 0;
  while (true) {
    check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (done != 0) return;
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
}

}  // namespace witan

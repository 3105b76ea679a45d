// MPI without Witan around it: the yardsticks of `witan bench`.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "parallel/mpi_environment.h"

namespace witan {

// All calls are collective, in the same order on every rank.
class RawMpi {
 public:
  explicit RawMpi(const MpiEnvironment& mpi);
  ~RawMpi();
  RawMpi(const RawMpi&) = delete;
  RawMpi& operator=(const RawMpi&) = delete;

  // MPI_Alltoallv of rows of `row` floats; counts [ranks] in rows, data by rank.
  void all_to_all_v(std::span<const float> from, std::span<const std::int64_t> send_rows,
                    std::span<float> to, std::span<const std::int64_t> recv_rows,
                    std::int64_t row) const;

  // Memory that the ranks of this node see (MPI_Win_allocate_shared): `floats` for each pair of
  // them. Then each rank copies its part of `from` [local ranks floats] straight into what each
  // other rank will read. Does not wait for the others.
  void open_windows(std::int64_t floats);
  void write_windows(std::span<const float> from) const;
  // What the others wrote for this rank [local ranks floats], by source rank; its own part is zero.
  std::span<const float> own_window() const;

  // A barrier whose waiting ranks sleep, so that the others have all cores.
  void quiet_barrier() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace witan

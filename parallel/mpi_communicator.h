// A communicator over MPI, for tensors in host memory. Non-blocking MPI collectives, polled by
// wait().
#pragma once

#include <mpi.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/operation_pool.h"
#include "parallel/scratch_pool.h"
#include "parallel/watchdog.h"

namespace witan {

// Turns an MPI error code into an Error with MPI's own text.
void check_mpi(int code, std::string_view call);

class MpiCommunicator final : public Communicator {
 public:
  // Owns `comm` and frees it. MPI counts are 32-bit: data is sent in rows, so that only more than
  // 2^31 - 1 rows (or elements of a reduction) in one operation are an error. A wait looks without
  // a break for `eager_seconds` before it lets others have the core.
  MpiCommunicator(MPI_Comm comm, std::string name, double watchdog_seconds, double eager_seconds);
  ~MpiCommunicator() override;
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return name_; }

  Request all_to_all_v(const TensorView& from, std::span<const std::int64_t> send_counts,
                       const TensorView& to, std::span<const std::int64_t> recv_counts) override;
  Request all_to_all(const TensorView& from, const TensorView& to) override;
  Request all_reduce(const TensorView& data, ReduceOp op) override;
  Request reduce_scatter_sum(const TensorView& from, const TensorView& to) override;
  Request reduce_sum(const TensorView& data, int root) override;
  Request all_gather(const TensorView& from, const TensorView& to) override;
  Request all_gather_v(const TensorView& from, const TensorView& to,
                       std::span<const std::int64_t> counts) override;
  Request broadcast(const TensorView& data, int root) override;
  void barrier() override;
  void wait_until(const char* operation, std::int64_t number,
                  const std::function<bool()>& ready) override;
  void broadcast_bytes(std::string& bytes, int root) override;
  std::string gather_bytes(const std::string& bytes, int root) override;
  double take_wait_seconds() override;

 private:
  class Pending;

  // `bytes`: what this rank sends to others, for the profile.
  Pending& begin(const char* operation, std::int64_t bytes);
  void poll(Pending& pending);
  // Until done(), which looks; `call` says what is waited for.
  template <class Done>
  void poll_until(const Done& done, const CollectiveCall& call);
  MPI_Datatype row_type(DType dtype, std::int64_t cols);
  void broadcast_range(char* data, std::int64_t bytes, int root);

  MPI_Comm comm_;
  std::string name_;
  int rank_ = 0, size_ = 1;
  Watchdog watchdog_;
  double eager_seconds_;
  double wait_seconds_ = 0.0;
  std::int64_t sequence_ = 0;

  OperationPool<Pending> pool_;
  struct RowType {
    DType dtype;
    std::int64_t cols;
    MPI_Datatype type;
  };
  std::vector<RowType> row_types_;
  ScratchPool scratch_{"reduce-scatter"};
};

}  // namespace witan

// Collectives on device memory: a communicator beside one for host memory, to which tensors of the
// host go as before. Two of them, chosen by parallel.device_transport:
//   NCCL        every rank has a GPU of its own; on a stream of its own
//   staged MPI  through pinned host memory; ranks may share a GPU
#pragma once

#include <memory>

#include "core/base/context.h"
#include "parallel/communicator.h"

namespace witan {

class DeviceCommunicator : public Communicator {
 public:
  // `host` is of the same ranks. ctx: where the tensors are written and read.
  DeviceCommunicator(std::unique_ptr<Communicator> host, const Context& ctx)
      : ctx_(ctx), host_(std::move(host)) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  const std::string& name() const override { return host_->name(); }

  Request all_to_all_v(const TensorView& from, std::span<const std::int64_t> send_counts,
                       const TensorView& to, std::span<const std::int64_t> recv_counts) final;
  Request all_to_all(const TensorView& from, const TensorView& to) final;
  Request all_reduce(const TensorView& data, ReduceOp op) final;
  Request reduce_scatter_sum(const TensorView& from, const TensorView& to) final;
  Request reduce_sum(const TensorView& data, int root) final;
  Request all_gather(const TensorView& from, const TensorView& to) final;
  Request all_gather_v(const TensorView& from, const TensorView& to,
                       std::span<const std::int64_t> counts) final;
  Request broadcast(const TensorView& data, int root) final;
  void barrier() override { host_->barrier(); }
  void wait_until(const char* operation, std::int64_t number,
                  const std::function<bool()>& ready) override {
    host_->wait_until(operation, number, ready);
  }
  void broadcast_bytes(std::string& bytes, int root) override {
    host_->broadcast_bytes(bytes, root);
  }
  std::string gather_bytes(const std::string& bytes, int root) override {
    return host_->gather_bytes(bytes, root);
  }
  double take_wait_seconds() override { return host_->take_wait_seconds(); }

 protected:
  // The same on tensors of ctx.device, with arguments that have been checked.
  virtual Request device_all_to_all_v(const TensorView& from,
                                      std::span<const std::int64_t> send_counts,
                                      const TensorView& to,
                                      std::span<const std::int64_t> recv_counts) = 0;
  virtual Request device_all_reduce(const TensorView& data, ReduceOp op) = 0;
  virtual Request device_reduce_scatter_sum(const TensorView& from, const TensorView& to) = 0;
  virtual Request device_reduce_sum(const TensorView& data, int root) = 0;
  virtual Request device_all_gather(const TensorView& from, const TensorView& to) = 0;
  virtual Request device_all_gather_v(const TensorView& from, const TensorView& to,
                                      std::span<const std::int64_t> counts) = 0;
  virtual Request device_broadcast(const TensorView& data, int root) = 0;

  Communicator& host() { return *host_; }
  const Context& context() const { return ctx_; }

 private:
  // Whether the operands are the host's; throws if they lie on different devices.
  bool on_host(const char* operation, const TensorView& from, const TensorView& to) const;

  Context ctx_;
  std::unique_ptr<Communicator> host_;
  std::vector<std::int64_t> one_each_;  // [ranks]
};

// A wait() of an operation ends when its result is in `to` for work enqueued on ctx.stream later;
// the start waits for what is enqueued on it.
std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> host,
                                                       const Context& ctx);

// Whether make_nccl_communicator() is there in this build.
bool built_with_nccl();

// Collective over the ranks of `host`. An operation is enqueued on the communicator's own stream
// behind what is enqueued on ctx.stream; wait() looks until it is done, and meanwhile for errors
// that NCCL meets: a wait longer than `watchdog_seconds` (0: no limit) says which operation it was,
// ends NCCL and then every rank. After wait_on() a thread looks in the same way. Sums are taken in
// NCCL's order. Throws UserError if the NCCL library is older than the one of the build.
std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host,
                                                     const Context& ctx, double watchdog_seconds);

}  // namespace witan

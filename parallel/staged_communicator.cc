// Collectives on device memory through pinned host memory and MPI: for ranks that share a GPU, and
// where there is no NCCL. The start of an operation waits for the stream; its wait brings the
// result back.
#include <memory>
#include <utility>
#include <vector>

#include "core/base/stream.h"
#include "core/tensor/pinned_blocks.h"
#include "core/tensor/transfer.h"
#include "parallel/device_communicator.h"
#include "parallel/operation_pool.h"
#include "parallel/scratch_pool.h"

namespace witan {
namespace {

class StagedCommunicator final : public DeviceCommunicator {
 public:
  using DeviceCommunicator::DeviceCommunicator;

 protected:
  Request device_all_to_all_v(const TensorView& from, std::span<const std::int64_t> send_counts,
                              const TensorView& to,
                              std::span<const std::int64_t> recv_counts) override {
    return start(from, to, [&](const TensorView& host_from, const TensorView& host_to) {
      return host().all_to_all_v(host_from, send_counts, host_to, recv_counts);
    });
  }
  Request device_all_reduce(const TensorView& data, ReduceOp op) override {
    return start_in_place(
        data, [&](const TensorView& host_data) { return host().all_reduce(host_data, op); });
  }
  Request device_reduce_scatter_sum(const TensorView& from, const TensorView& to) override {
    return start(from, to, [&](const TensorView& host_from, const TensorView& host_to) {
      return host().reduce_scatter_sum(host_from, host_to);
    });
  }
  Request device_reduce_sum(const TensorView& data, int root) override {
    return start_in_place(
        data, [&](const TensorView& host_data) { return host().reduce_sum(host_data, root); });
  }
  Request device_all_gather(const TensorView& from, const TensorView& to) override {
    return start(from, to, [&](const TensorView& host_from, const TensorView& host_to) {
      return host().all_gather(host_from, host_to);
    });
  }
  Request device_all_gather_v(const TensorView& from, const TensorView& to,
                              std::span<const std::int64_t> counts) override {
    return start(from, to, [&](const TensorView& host_from, const TensorView& host_to) {
      return host().all_gather_v(host_from, host_to, counts);
    });
  }
  Request device_broadcast(const TensorView& data, int root) override {
    return start_in_place(
        data, [&](const TensorView& host_data) { return host().broadcast(host_data, root); });
  }

 private:
  class Pending final : public Request::Impl {
   public:
    explicit Pending(StagedCommunicator& owner) : owner_(owner) {}

    void wait() override {
      request.wait();
      transfer(owner_.context(), arrived, to);
      synchronize(owner_.context());  // pinned memory is read when the copy runs
      owner_.scratch_.give_back(*std::exchange(scratch, nullptr));
    }
    void release() noexcept override { owner_.pool_.give_back(*this); }

    Request request;  // of the host's operation
    Arena* scratch = nullptr;
    TensorView arrived, to;

   private:
    StagedCommunicator& owner_;
  };

  Pending& begin(const TensorView& to, std::size_t bytes) {
    Pending& pending = pool_.take(*this);
    pending.scratch = &scratch_.take(bytes);
    pending.to = to;
    return pending;
  }

  TensorView staged(Pending& pending, const TensorView& from) {
    const TensorView host = pending.scratch->allocate(from.shape, from.dtype, "staging");
    transfer(context(), from, host);
    return host;
  }

  template <class Operation>
  Request start(const TensorView& from, const TensorView& to, const Operation& operation) {
    Pending& pending = begin(to, from.bytes() + to.bytes() + 2 * kTensorAlignment);
    const TensorView sent = staged(pending, from);
    pending.arrived = pending.scratch->allocate(to.shape, to.dtype, "staging");
    pending.request = operation(sent, pending.arrived);
    return Request(&pending);
  }

  template <class Operation>
  Request start_in_place(const TensorView& data, const Operation& operation) {
    Pending& pending = begin(data, data.bytes() + kTensorAlignment);
    pending.arrived = staged(pending, data);
    pending.request = operation(pending.arrived);
    return Request(&pending);
  }

  PinnedBlocks pinned_;
  ScratchPool scratch_{"staging of collectives", &pinned_};
  OperationPool<Pending> pool_;
};

}  // namespace

std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> host,
                                                       const Context& ctx) {
  return std::make_unique<StagedCommunicator>(std::move(host), ctx);
}

}  // namespace witan

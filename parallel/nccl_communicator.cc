// Collectives on device memory through NCCL. There is no all-to-all-v in it: sends and receives of
// one group are.
#include <cuda_runtime.h>
#include <nccl.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/profile.h"
#include "core/base/stream.h"
#include "core/tensor/device_memory.h"
#include "parallel/device_communicator.h"
#include "parallel/device_watch.h"
#include "parallel/nccl_check.h"
#include "parallel/operation_pool.h"
#include "parallel/watchdog.h"

namespace witan {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return ncclFloat32;
    case DType::kFloat64: return ncclFloat64;
    case DType::kInt32: return ncclInt32;
    case DType::kInt64: return ncclInt64;
    case DType::kBfloat16: break;
  }
  WITAN_CHECK(false, "a collective over a tensor of ", name_of(dtype));
}

ncclRedOp_t nccl_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum: return ncclSum;
    case ReduceOp::kMax: return ncclMax;
    case ReduceOp::kMin: return ncclMin;
  }
  return ncclSum;
}

std::size_t elements(const TensorView& data) { return static_cast<std::size_t>(data.size()); }
std::int64_t bytes_of(const TensorView& data) { return static_cast<std::int64_t>(data.bytes()); }

std::string version_text(int code) {
  return detail::concat(code / 10000, ".", code / 100 % 100, ".", code % 100);
}

// A library that was found when the program started, which may not be the one of the build.
void check_version() {
  int found = 0;
  WITAN_NCCL_CHECK(ncclGetVersion(&found), nullptr, "asking for the version of NCCL");
  if (found >= NCCL_VERSION_CODE) return;
  throw_user_error("this witan was built with NCCL ", version_text(NCCL_VERSION_CODE),
                   ", but the library found is ", version_text(found),
                   "; put a newer libnccl.so.2 on the library path, or set "
                   "parallel.device_transport to STAGED_MPI");
}

class NcclCommunicator final : public DeviceCommunicator {
 public:
  NcclCommunicator(std::unique_ptr<Communicator> host_group, const Context& ctx,
                   double watchdog_seconds)
      : DeviceCommunicator(std::move(host_group), ctx),
        stream_(ctx.device),
        inputs_ready_(ctx.device),
        watchdog_(watchdog_seconds),
        watch_(ctx.device, watchdog_seconds) {
    check_version();
    std::string bytes;
    if (rank() == 0) {
      ncclUniqueId id;
      WITAN_NCCL_CHECK(ncclGetUniqueId(&id), nullptr, "making an id for communicator '", name(),
                       "'");
      bytes.assign(id.internal, sizeof id.internal);
    }
    host().broadcast_bytes(bytes, 0);
    ncclUniqueId id;
    bytes.copy(id.internal, sizeof id.internal);
    const ncclResult_t status = ncclCommInitRank(&comm_, size(), id, rank());
    if (status != ncclSuccess &&
        std::string(ncclGetLastError(nullptr)).find("out of memory") != std::string::npos) {
      throw_out_of_device_memory(
          detail::concat("buffers of NCCL's communicator '", name(), "' of ", size(), " ranks"),
          ctx.device, 0);
    }
    WITAN_NCCL_CHECK(status, nullptr, "starting communicator '", name(), "' of ", size(), " ranks");
  }

  ~NcclCommunicator() override {
    // With an exception on its way, operations may be in flight whose other ranks never come.
    const bool ended = std::uncaught_exceptions() == 0 && finish_operations();
    watch_.stop();  // it asks the communicator
    (void)(ended ? ncclCommDestroy(comm_) : ncclCommAbort(comm_));
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  double take_wait_seconds() override {
    return std::exchange(wait_seconds_, 0.0) + host().take_wait_seconds();
  }

 protected:
  Request device_all_to_all_v(const TensorView& from, std::span<const std::int64_t> send_counts,
                              const TensorView& to,
                              std::span<const std::int64_t> recv_counts) override {
    const std::int64_t own = send_counts[static_cast<std::size_t>(rank())];
    Pending& op = begin("all_to_all_v", bytes_of(from) - bytes_of(from.slice_rows(0, own)));
    op.send_counts.assign(send_counts.begin(), send_counts.end());
    op.recv_counts.assign(recv_counts.begin(), recv_counts.end());
    check(op, ncclGroupStart());
    std::int64_t sent = 0;
    std::int64_t received = 0;
    for (int peer = 0; peer < size(); ++peer) {
      const TensorView out = from.slice_rows(sent, send_counts[static_cast<std::size_t>(peer)]);
      const TensorView in = to.slice_rows(received, recv_counts[static_cast<std::size_t>(peer)]);
      sent += out.rows();
      received += in.rows();
      if (out.size() > 0) {
        check(op, ncclSend(out.data, elements(out), nccl_type(out.dtype), peer, comm_, stream()));
      }
      if (in.size() > 0) {
        check(op, ncclRecv(in.data, elements(in), nccl_type(in.dtype), peer, comm_, stream()));
      }
    }
    check(op, ncclGroupEnd());
    return started(op);
  }

  Request device_all_reduce(const TensorView& data, ReduceOp reduce) override {
    if (data.size() == 0) return {};
    Pending& op = begin("all_reduce", 2 * bytes_of(data) / size() * (size() - 1));
    op.send_counts.push_back(static_cast<int>(data.size()));
    check(op, ncclAllReduce(data.data, data.data, elements(data), nccl_type(data.dtype),
                            nccl_op(reduce), comm_, stream()));
    return started(op);
  }

  Request device_reduce_scatter_sum(const TensorView& from, const TensorView& to) override {
    if (to.size() == 0) return {};
    Pending& op = begin("reduce_scatter_sum", bytes_of(from) - bytes_of(to));
    op.send_counts.push_back(static_cast<int>(to.size()));
    check(op, ncclReduceScatter(from.data, to.data, elements(to), nccl_type(to.dtype), ncclSum,
                                comm_, stream()));
    return started(op);
  }

  Request device_reduce_sum(const TensorView& data, int root) override {
    if (data.size() == 0) return {};
    Pending& op = begin("reduce_sum", rank() == root ? 0 : bytes_of(data));
    op.send_counts.push_back(static_cast<int>(data.size()));
    check(op, ncclReduce(data.data, data.data, elements(data), nccl_type(data.dtype), ncclSum, root,
                         comm_, stream()));
    return started(op);
  }

  Request device_all_gather(const TensorView& from, const TensorView& to) override {
    if (from.size() == 0) return {};
    Pending& op = begin("all_gather", bytes_of(from) * (size() - 1));
    op.send_counts.push_back(static_cast<int>(from.size()));
    check(op, ncclAllGather(from.data, to.data, elements(from), nccl_type(from.dtype), comm_,
                            stream()));
    return started(op);
  }

  Request device_all_gather_v(const TensorView& from, const TensorView& to,
                              std::span<const std::int64_t> counts) override {
    Pending& op = begin("all_gather_v", bytes_of(from) * (size() - 1));
    op.recv_counts.assign(counts.begin(), counts.end());
    check(op, ncclGroupStart());
    std::int64_t row = 0;
    for (int peer = 0; peer < size(); ++peer) {
      const TensorView part = to.slice_rows(row, counts[static_cast<std::size_t>(peer)]);
      row += part.rows();
      if (part.size() == 0) continue;
      const void* source = peer == rank() ? from.data : part.data;
      check(op, ncclBroadcast(source, part.data, elements(part), nccl_type(part.dtype), peer, comm_,
                              stream()));
    }
    check(op, ncclGroupEnd());
    return started(op);
  }

  Request device_broadcast(const TensorView& data, int root) override {
    if (data.size() == 0) return {};
    Pending& op = begin("broadcast", rank() == root ? bytes_of(data) : 0);
    op.send_counts.push_back(static_cast<int>(data.size()));
    check(op, ncclBroadcast(data.data, data.data, elements(data), nccl_type(data.dtype), root,
                            comm_, stream()));
    return started(op);
  }

 private:
  // One operation in flight; the watch has it where its request was left to the device.
  class Pending final : public Request::Impl, public DeviceWatch::Operation {
   public:
    explicit Pending(NcclCommunicator& owner) : finished(owner.context().device), owner_(owner) {}

    void wait() override {
      {
        const ProfileScope waiting(operation, owner_.name().c_str());
        owner_.poll(*this);
      }
      transfer.finish(operation, owner_.name().c_str());
    }
    void wait_on(const Context& ctx) override {
      finished.make_wait(ctx);
      owner_.left_.push_back(this);
      owner_.watch_.add(*this);
    }
    void release() noexcept override {
      if (owner_.left_.empty() || owner_.left_.back() != this) owner_.pool_.give_back(*this);
    }

    bool done() const override { return finished.happened(); }
    CollectiveCall call() const override {
      return {.operation = operation,
              .communicator = owner_.name().c_str(),
              .rank = owner_.rank(),
              .size = owner_.size(),
              .sequence = sequence,
              .send_counts = send_counts,
              .recv_counts = recv_counts};
    }
    std::string trouble() const override { return owner_.trouble(); }
    void abort_all() const noexcept override {
      owner_.aborted_ = true;
      (void)ncclCommAbort(owner_.comm_);
    }

    const char* operation = "";
    std::int64_t sequence = 0;
    std::vector<int> send_counts, recv_counts;  // rows, for the watchdog
    ProfileTransfer transfer;
    DeviceEvent finished;

   private:
    NcclCommunicator& owner_;
  };

  cudaStream_t stream() const { return static_cast<cudaStream_t>(stream_.get().handle); }

  void check(const Pending& op, ncclResult_t status) const {
    WITAN_NCCL_CHECK(status, comm_, op.operation, " on communicator '", name(), "' (operation ",
                     op.sequence, ")");
  }

  // What follows on the communicator's stream starts behind what is enqueued on the model's.
  Pending& begin(const char* operation, std::int64_t bytes) {
    take_finished();
    Pending& op = pool_.take(*this);
    op.operation = operation;
    op.sequence = ++sequence_;
    op.send_counts.clear();
    op.recv_counts.clear();
    op.transfer.start(bytes);
    inputs_ready_.record(context());
    inputs_ready_.make_wait(stream_.context());
    return op;
  }

  Request started(Pending& op) {
    op.finished.record(stream_.context());
    return Request(&op);
  }

  // Operations that were left to the device and have ended since: their memory is used again.
  void take_finished() {
    while (!left_.empty() && watch_.take_oldest_done()) {
      Pending& op = *left_.front();
      left_.pop_front();
      op.transfer.finish(op.operation, name().c_str());  // it ended some time before
      pool_.give_back(op);
    }
  }

  // Whether all that were left to the device have ended without an error.
  bool finish_operations() noexcept {
    try {
      for (take_finished(); !left_.empty(); take_finished()) sched_yield();
      return true;
    } catch (const std::exception&) {
      return false;
    }
  }

  std::string trouble() const {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
    if (asked != ncclSuccess) state = asked;
    if (state == ncclSuccess || state == ncclInProgress) return {};
    return detail::concat("NCCL: ", ncclGetErrorString(state), " (", ncclGetLastError(comm_), ")");
  }

  void poll(const Pending& op) {
    const auto start = Clock::now();
    while (!op.done()) {
      if (aborted_) {  // by the watch, which is about to end the run: nothing is left to ask
        sched_yield();
        continue;
      }
      ncclResult_t state = ncclSuccess;
      WITAN_NCCL_CHECK(ncclCommGetAsyncError(comm_, &state), comm_, "asking for errors of ",
                       op.operation);
      if (state != ncclInProgress) check(op, state);
      const double waited = seconds_since(start);
      if (watchdog_.expired(waited)) {
        op.abort_all();
        watchdog_.bark(op.call(), waited);
      }
      sched_yield();
    }
    wait_seconds_ += seconds_since(start);
  }

  DeviceStream stream_;
  DeviceEvent inputs_ready_;
  Watchdog watchdog_;
  ncclComm_t comm_ = nullptr;
  std::atomic<bool> aborted_ = false;
  double wait_seconds_ = 0.0;
  std::int64_t sequence_ = 0;
  OperationPool<Pending> pool_;
  std::deque<Pending*> left_;  // to the device, oldest first
  DeviceWatch watch_;          // of those
};

}  // namespace

bool built_with_nccl() { return true; }

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host,
                                                     const Context& ctx, double watchdog_seconds) {
  return std::make_unique<NcclCommunicator>(std::move(host), ctx, watchdog_seconds);
}

}  // namespace witan

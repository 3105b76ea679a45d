// The communicator of a single rank: every collective is a copy that is done when the call returns.
#include <utility>

#include "core/tensor/transfer.h"
#include "parallel/collective_checks.h"
#include "parallel/communicator.h"

namespace witan {
namespace {

class SelfCommunicator final : public Communicator {
 public:
  SelfCommunicator(std::string name, const Context& ctx) : name_(std::move(name)), ctx_(ctx) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }
  const std::string& name() const override { return name_; }

  Request all_to_all_v(const TensorView& from, std::span<const std::int64_t> send_counts,
                       const TensorView& to, std::span<const std::int64_t> recv_counts) override {
    check_place(*this, "all_to_all_v", ctx_.device, {from, to});
    check_all_to_all_v(*this, from, send_counts, to, recv_counts);
    WITAN_CHECK(send_counts[0] == recv_counts[0], "all_to_all_v on communicator '", name_,
                "': sends ", send_counts[0], " rows to itself and expects ", recv_counts[0]);
    copy(from, to);
    return {};
  }
  Request all_to_all(const TensorView& from, const TensorView& to) override {
    check_place(*this, "all_to_all", ctx_.device, {from, to});
    check_all_to_all(*this, from, to);
    copy(from, to);
    return {};
  }
  Request all_reduce(const TensorView& data, ReduceOp) override {
    check_place(*this, "all_reduce", ctx_.device, {data});
    return {};
  }
  Request reduce_scatter_sum(const TensorView& from, const TensorView& to) override {
    check_place(*this, "reduce_scatter_sum", ctx_.device, {from, to});
    check_parts(*this, "reduce_scatter_sum", from, to);
    copy(from, to);
    return {};
  }
  Request reduce_sum(const TensorView& data, int root) override {
    check_place(*this, "reduce_sum", ctx_.device, {data});
    check_root(*this, "reduce_sum", root);
    return {};
  }
  Request all_gather(const TensorView& from, const TensorView& to) override {
    check_place(*this, "all_gather", ctx_.device, {from, to});
    check_parts(*this, "all_gather", to, from);
    copy(from, to);
    return {};
  }
  Request all_gather_v(const TensorView& from, const TensorView& to,
                       std::span<const std::int64_t> counts) override {
    check_place(*this, "all_gather_v", ctx_.device, {from, to});
    check_all_gather_v(*this, from, to, counts);
    copy(from, to);
    return {};
  }
  Request broadcast(const TensorView& data, int root) override {
    check_place(*this, "broadcast", ctx_.device, {data});
    check_root(*this, "broadcast", root);
    return {};
  }
  void barrier() override {}
  void wait_until(const char* operation, std::int64_t,
                  const std::function<bool()>& ready) override {
    WITAN_CHECK(ready(), operation, " on communicator '", name_, "': nobody else could make it so");
  }
  void broadcast_bytes(std::string&, int root) override {
    check_root(*this, "broadcast_bytes", root);
  }
  std::string gather_bytes(const std::string& bytes, int root) override {
    check_root(*this, "gather_bytes", root);
    return bytes;
  }
  double take_wait_seconds() override { return 0.0; }

 private:
  void copy(const TensorView& from, const TensorView& to) const {
    if (from.data != to.data) transfer(ctx_, from, to.reshape(from.shape));
  }

  std::string name_;
  Context ctx_;
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator(std::string name, const Context& ctx) {
  return std::make_unique<SelfCommunicator>(std::move(name), ctx);
}

}  // namespace witan

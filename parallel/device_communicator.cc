#include "parallel/device_communicator.h"

#include "parallel/collective_checks.h"

namespace witan {

bool DeviceCommunicator::on_host(const char* operation, const TensorView& from,
                                 const TensorView& to) const {
  if (from.device.is_cpu() && to.device.is_cpu()) return true;
  WITAN_CHECK(from.device == ctx_.device && to.device == ctx_.device, operation,
              " on communicator '", name(), "': a tensor on ", name_of(from.device.type), " ",
              from.device.index, " and one on ", name_of(to.device.type), " ", to.device.index,
              "; expected both on the host or on CUDA ", ctx_.device.index);
  return false;
}

Request DeviceCommunicator::all_to_all_v(const TensorView& from,
                                         std::span<const std::int64_t> send_counts,
                                         const TensorView& to,
                                         std::span<const std::int64_t> recv_counts) {
  if (on_host("all_to_all_v", from, to)) {
    return host_->all_to_all_v(from, send_counts, to, recv_counts);
  }
  check_all_to_all_v(*this, from, send_counts, to, recv_counts);
  return device_all_to_all_v(from, send_counts, to, recv_counts);
}

Request DeviceCommunicator::all_to_all(const TensorView& from, const TensorView& to) {
  if (on_host("all_to_all", from, to)) return host_->all_to_all(from, to);
  check_all_to_all(*this, from, to);
  one_each_.assign(static_cast<std::size_t>(size()), 1);
  return device_all_to_all_v(from, one_each_, to, one_each_);
}

Request DeviceCommunicator::all_reduce(const TensorView& data, ReduceOp op) {
  if (on_host("all_reduce", data, data)) return host_->all_reduce(data, op);
  return device_all_reduce(data, op);
}

Request DeviceCommunicator::reduce_scatter_sum(const TensorView& from, const TensorView& to) {
  if (on_host("reduce_scatter_sum", from, to)) return host_->reduce_scatter_sum(from, to);
  check_parts(*this, "reduce_scatter_sum", from, to);
  return device_reduce_scatter_sum(from, to);
}

Request DeviceCommunicator::reduce_sum(const TensorView& data, int root) {
  if (on_host("reduce_sum", data, data)) return host_->reduce_sum(data, root);
  check_root(*this, "reduce_sum", root);
  return device_reduce_sum(data, root);
}

Request DeviceCommunicator::all_gather(const TensorView& from, const TensorView& to) {
  if (on_host("all_gather", from, to)) return host_->all_gather(from, to);
  check_parts(*this, "all_gather", to, from);
  return device_all_gather(from, to);
}

Request DeviceCommunicator::all_gather_v(const TensorView& from, const TensorView& to,
                                         std::span<const std::int64_t> counts) {
  if (on_host("all_gather_v", from, to)) return host_->all_gather_v(from, to, counts);
  check_all_gather_v(*this, from, to, counts);
  return device_all_gather_v(from, to, counts);
}

Request DeviceCommunicator::broadcast(const TensorView& data, int root) {
  if (on_host("broadcast", data, data)) return host_->broadcast(data, root);
  check_root(*this, "broadcast", root);
  return device_broadcast(data, root);
}

}  // namespace witan

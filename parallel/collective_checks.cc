#include "parallel/collective_checks.h"

#include "core/base/error.h"

namespace witan {
namespace {

void check_pair(const Communicator& group, const char* operation, const TensorView& from,
                const TensorView& to) {
  WITAN_CHECK(from.dtype == to.dtype, operation, " on communicator '", group.name(), "': from is ",
              name_of(from.dtype), ", to is ", name_of(to.dtype));
}

void check_row_length(const Communicator& group, const char* operation, const TensorView& from,
                      const TensorView& to) {
  WITAN_CHECK(from.shape.rank() >= 1 && to.shape.rank() >= 1 && from.cols() == to.cols(), operation,
              " on communicator '", group.name(), "': rows of different length, from ",
              from.shape.to_string(), ", to ", to.shape.to_string());
}

void check_counts(const Communicator& group, const char* operation, const char* side,
                  std::span<const std::int64_t> counts, std::int64_t rows) {
  WITAN_CHECK(counts.size() == static_cast<std::size_t>(group.size()), operation,
              " on communicator '", group.name(), "': expected ", group.size(), ' ', side,
              " counts, found ", counts.size());
  std::int64_t sum = 0;
  for (const std::int64_t count : counts) {
    WITAN_CHECK(count >= 0, operation, " on communicator '", group.name(), "': a negative ", side,
                " count: ", count);
    sum += count;
  }
  WITAN_CHECK(sum == rows, operation, " on communicator '", group.name(), "': ", side,
              " counts add up to ", sum, ", the tensor has ", rows, " rows");
}

}  // namespace

void check_place(const Communicator& group, const char* operation, Device device,
                 std::initializer_list<TensorView> views) {
  for (const TensorView& view : views) {
    WITAN_CHECK(view.device.is_cpu() || view.device == device, operation, " on communicator '",
                group.name(), "' takes ", device.is_cpu() ? "CPU tensors" : "tensors of its GPU",
                ", found ", name_of(view.device.type));
  }
}

void check_all_to_all_v(const Communicator& group, const TensorView& from,
                        std::span<const std::int64_t> send_counts, const TensorView& to,
                        std::span<const std::int64_t> recv_counts) {
  constexpr const char* kOperation = "all_to_all_v";
  check_pair(group, kOperation, from, to);
  check_row_length(group, kOperation, from, to);
  check_counts(group, kOperation, "send", send_counts, from.rows());
  check_counts(group, kOperation, "receive", recv_counts, to.rows());
}

void check_all_to_all(const Communicator& group, const TensorView& from, const TensorView& to) {
  constexpr const char* kOperation = "all_to_all";
  check_pair(group, kOperation, from, to);
  check_row_length(group, kOperation, from, to);
  WITAN_CHECK(from.rows() == group.size() && to.rows() == group.size(), kOperation,
              " on communicator '", group.name(), "': expected ", group.size(), " rows, from is ",
              from.shape.to_string(), ", to is ", to.shape.to_string());
}

void check_parts(const Communicator& group, const char* operation, const TensorView& whole,
                 const TensorView& part) {
  check_pair(group, operation, whole, part);
  WITAN_CHECK(whole.size() == part.size() * group.size(), operation, " on communicator '",
              group.name(), "': ", group.size(), " parts of ", part.shape.to_string(),
              " do not make ", whole.shape.to_string());
}

void check_all_gather_v(const Communicator& group, const TensorView& from, const TensorView& to,
                        std::span<const std::int64_t> counts) {
  constexpr const char* kOperation = "all_gather_v";
  check_pair(group, kOperation, from, to);
  check_row_length(group, kOperation, from, to);
  check_counts(group, kOperation, "receive", counts, to.rows());
  const std::int64_t own = counts[static_cast<std::size_t>(group.rank())];
  WITAN_CHECK(from.rows() == own, kOperation, " on communicator '", group.name(), "': rank ",
              group.rank(), " announced ", own, " rows and gives ", from.rows());
}

void check_root(const Communicator& group, const char* operation, int root) {
  WITAN_CHECK(root >= 0 && root < group.size(), operation, " on communicator '", group.name(),
              "': root ", root, " is not one of the ", group.size(), " ranks");
}

}  // namespace witan

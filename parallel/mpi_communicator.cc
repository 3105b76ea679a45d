#include "parallel/mpi_communicator.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <limits>
#include <thread>
#include <utility>

#include "core/tensor/arena.h"
#include "parallel/collective_checks.h"

namespace witan {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return MPI_FLOAT;
    case DType::kFloat64: return MPI_DOUBLE;
    case DType::kInt32: return MPI_INT32_T;
    case DType::kInt64: return MPI_INT64_T;
  }
  return MPI_DATATYPE_NULL;
}

MPI_Op mpi_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum: return MPI_SUM;
    case ReduceOp::kMax: return MPI_MAX;
    case ReduceOp::kMin: return MPI_MIN;
  }
  return MPI_OP_NULL;
}

int mpi_count(std::int64_t count, const char* what) {
  WITAN_CHECK(count <= std::numeric_limits<int>::max(), what, ": ", count,
              " in one operation exceed MPI's 32-bit counts");
  return static_cast<int>(count);
}

// What a rank does between two looks at an operation that is not finished: looks again at once for
// a while, then lets another process of its core run (ranks may outnumber cores), and sleeps only
// in waits so long that the others must be busy elsewhere: MPI moves data only while it is polled.
void pause(int looks, double waited_seconds) {
  constexpr int kEagerLooks = 100;
  constexpr double kPatience = 0.5;
  if (looks < kEagerLooks) return;
  if (waited_seconds < kPatience) {
    sched_yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

}  // namespace

void check_mpi(int code, std::string_view call) {
  if (code == MPI_SUCCESS) [[likely]]
    return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  WITAN_CHECK(code == MPI_SUCCESS, call, " failed: ", text);
}

// One operation in flight. The count arrays and the scratch memory belong to it, since MPI reads
// them until it has finished, and keep their capacity for the next one.
class MpiCommunicator::Pending final : public Request::Impl {
 public:
  explicit Pending(MpiCommunicator& owner) : owner_(owner), scratch_(Device{}, "reduce-scatter") {}

  void wait() override {
    owner_.poll(*this);
    if (copy_to.data != nullptr && copy_to.bytes() > 0)
      std::memcpy(copy_to.data, copy_from, copy_to.bytes());
    scratch_.reset();
  }
  void release() noexcept override { owner_.idle_.push_back(this); }

  void start(const char* op, std::int64_t number) {
    operation = op;
    sequence = number;
    copy_to = {};
    send_counts.clear();
    recv_counts.clear();
  }
  // Counts and where each rank's rows begin.
  void set_counts(std::span<const std::int64_t> counts, std::vector<int>& out,
                  std::vector<int>& displacements) const {
    out.clear();
    displacements.clear();
    std::int64_t begin = 0;
    for (const std::int64_t count : counts) {
      displacements.push_back(mpi_count(begin, operation));
      out.push_back(mpi_count(count, operation));
      begin += count;
    }
  }
  // Memory for a result that goes to `to` once the operation has finished.
  void* deliver_to(const TensorView& to) {
    copy_to = to;
    copy_from = scratch_.allocate(to.shape, to.dtype, operation).data;
    return copy_from;
  }

  MPI_Request request = MPI_REQUEST_NULL;
  const char* operation = "";
  std::int64_t sequence = 0;
  std::vector<int> send_counts, send_begins, recv_counts, recv_begins;

 private:
  MpiCommunicator& owner_;
  Arena scratch_;
  TensorView copy_to;
  void* copy_from = nullptr;
};

MpiCommunicator::MpiCommunicator(MPI_Comm comm, std::string name, double watchdog_seconds)
    : comm_(comm), name_(std::move(name)), watchdog_(watchdog_seconds) {
  check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_set_name(comm_, name_.c_str()), "MPI_Comm_set_name");
  check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
}

MpiCommunicator::~MpiCommunicator() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  // With an exception on its way, operations may still be in flight and the others may not come.
  if (finalized != 0 || std::uncaught_exceptions() > 0) return;
  for (RowType& row : row_types_) MPI_Type_free(&row.type);
  MPI_Comm_free(&comm_);
}

MpiCommunicator::Pending& MpiCommunicator::begin(const char* operation) {
  if (idle_.empty()) {
    pool_.push_back(std::make_unique<Pending>(*this));
    idle_.reserve(pool_.size());  // so that release() never allocates
    idle_.push_back(pool_.back().get());
  }
  Pending& pending = *idle_.back();
  idle_.pop_back();
  pending.start(operation, ++sequence_);
  return pending;
}

void MpiCommunicator::poll(Pending& pending) {
  const auto start = Clock::now();
  double waited = 0.0;
  for (int looks = 0;; ++looks) {
    int done = 0;
    check_mpi(MPI_Test(&pending.request, &done, MPI_STATUS_IGNORE), pending.operation);
    if (done != 0) break;
    waited = seconds_since(start);
    if (watchdog_.expired(waited)) {
      watchdog_.bark({.operation = pending.operation,
                      .communicator = name_.c_str(),
                      .rank = rank_,
                      .size = size_,
                      .sequence = pending.sequence,
                      .send_counts = pending.send_counts,
                      .recv_counts = pending.recv_counts},
                     waited);
    }
    pause(looks, waited);
  }
  wait_seconds_ += seconds_since(start);
}

// A row as one MPI element keeps the counts small. Types are made once per row length.
MPI_Datatype MpiCommunicator::row_type(DType dtype, std::int64_t cols) {
  if (cols == 1) return mpi_type(dtype);
  const auto found = std::find_if(row_types_.begin(), row_types_.end(), [&](const RowType& row) {
    return row.dtype == dtype && row.cols == cols;
  });
  if (found != row_types_.end()) return found->type;
  MPI_Datatype type = MPI_DATATYPE_NULL;
  check_mpi(MPI_Type_contiguous(mpi_count(cols, "elements of a row"), mpi_type(dtype), &type),
            "MPI_Type_contiguous");
  check_mpi(MPI_Type_commit(&type), "MPI_Type_commit");
  row_types_.push_back({dtype, cols, type});
  return type;
}

Request MpiCommunicator::all_to_all_v(const TensorView& from,
                                      std::span<const std::int64_t> send_counts,
                                      const TensorView& to,
                                      std::span<const std::int64_t> recv_counts) {
  check_all_to_all_v(*this, from, send_counts, to, recv_counts);
  const MPI_Datatype row = row_type(from.dtype, from.cols());
  Pending& op = begin("all_to_all_v");
  op.set_counts(send_counts, op.send_counts, op.send_begins);
  op.set_counts(recv_counts, op.recv_counts, op.recv_begins);
  check_mpi(MPI_Ialltoallv(from.data, op.send_counts.data(), op.send_begins.data(), row, to.data,
                           op.recv_counts.data(), op.recv_begins.data(), row, comm_, &op.request),
            "MPI_Ialltoallv");
  return Request(&op);
}

Request MpiCommunicator::all_to_all(const TensorView& from, const TensorView& to) {
  check_all_to_all(*this, from, to);
  const MPI_Datatype row = row_type(from.dtype, from.cols());
  Pending& op = begin("all_to_all");
  check_mpi(MPI_Ialltoall(from.data, 1, row, to.data, 1, row, comm_, &op.request), "MPI_Ialltoall");
  return Request(&op);
}

Request MpiCommunicator::all_reduce(const TensorView& data, ReduceOp reduce) {
  check_in_place(*this, "all_reduce", data);
  const int count = mpi_count(data.size(), "elements of all_reduce");
  Pending& op = begin("all_reduce");
  op.send_counts.push_back(count);
  check_mpi(MPI_Iallreduce(MPI_IN_PLACE, data.data, count, mpi_type(data.dtype), mpi_op(reduce),
                           comm_, &op.request),
            "MPI_Iallreduce");
  return Request(&op);
}

Request MpiCommunicator::reduce_scatter_sum(const TensorView& from, const TensorView& to) {
  check_parts(*this, "reduce_scatter_sum", from, to);
  const int count = mpi_count(to.size(), "elements of reduce_scatter_sum");
  Pending& op = begin("reduce_scatter_sum");
  op.send_counts.push_back(count);
  // MPI wants buffers apart; the caller's may overlap.
  const auto* begin_of_from = static_cast<const std::byte*>(from.data);
  const auto* begin_of_to = static_cast<const std::byte*>(to.data);
  const bool inside = begin_of_to >= begin_of_from && begin_of_to < begin_of_from + from.bytes();
  void* result = inside ? op.deliver_to(to) : to.data;
  check_mpi(MPI_Ireduce_scatter_block(from.data, result, count, mpi_type(to.dtype), MPI_SUM, comm_,
                                      &op.request),
            "MPI_Ireduce_scatter_block");
  return Request(&op);
}

Request MpiCommunicator::all_gather(const TensorView& from, const TensorView& to) {
  check_parts(*this, "all_gather", to, from);
  const int count = mpi_count(from.size(), "elements of all_gather");
  Pending& op = begin("all_gather");
  op.send_counts.push_back(count);
  const auto* own = static_cast<std::byte*>(to.data) + from.bytes() * static_cast<unsigned>(rank_);
  const void* source = from.data == own ? MPI_IN_PLACE : from.data;
  check_mpi(MPI_Iallgather(source, count, mpi_type(to.dtype), to.data, count, mpi_type(to.dtype),
                           comm_, &op.request),
            "MPI_Iallgather");
  return Request(&op);
}

Request MpiCommunicator::all_gather_v(const TensorView& from, const TensorView& to,
                                      std::span<const std::int64_t> counts) {
  check_all_gather_v(*this, from, to, counts);
  const MPI_Datatype row = row_type(to.dtype, to.cols());
  Pending& op = begin("all_gather_v");
  op.set_counts(counts, op.recv_counts, op.recv_begins);
  const auto own = static_cast<std::size_t>(rank_);
  const void* place = to.slice_rows(op.recv_begins[own], from.rows()).data;
  const void* source = from.data == place ? MPI_IN_PLACE : from.data;
  check_mpi(MPI_Iallgatherv(source, op.recv_counts[own], row, to.data, op.recv_counts.data(),
                            op.recv_begins.data(), row, comm_, &op.request),
            "MPI_Iallgatherv");
  return Request(&op);
}

Request MpiCommunicator::broadcast(const TensorView& data, int root) {
  check_in_place(*this, "broadcast", data);
  check_root(*this, "broadcast", root);
  const int count = mpi_count(data.size(), "elements of broadcast");
  Pending& op = begin("broadcast");
  op.send_counts.push_back(count);
  check_mpi(MPI_Ibcast(data.data, count, mpi_type(data.dtype), root, comm_, &op.request),
            "MPI_Ibcast");
  return Request(&op);
}

void MpiCommunicator::barrier() {
  Pending& op = begin("barrier");
  check_mpi(MPI_Ibarrier(comm_, &op.request), "MPI_Ibarrier");
  Request(&op).wait();
}

void MpiCommunicator::broadcast_range(char* data, std::int64_t bytes, int root) {
  constexpr std::int64_t kMostBytes = std::int64_t{1} << 30;
  for (std::int64_t begin_byte = 0; begin_byte < bytes; begin_byte += kMostBytes) {
    const int count = static_cast<int>(std::min(kMostBytes, bytes - begin_byte));
    Pending& op = begin("broadcast_bytes");
    op.send_counts.push_back(count);
    check_mpi(MPI_Ibcast(data + begin_byte, count, MPI_BYTE, root, comm_, &op.request),
              "MPI_Ibcast");
    Request(&op).wait();
  }
}

void MpiCommunicator::broadcast_bytes(std::string& bytes, int root) {
  check_root(*this, "broadcast_bytes", root);
  auto length = static_cast<std::int64_t>(bytes.size());
  broadcast(view_of(&length, {1}), root).wait();
  bytes.resize(static_cast<std::size_t>(length));
  broadcast_range(bytes.data(), length, root);
}

std::string MpiCommunicator::gather_bytes(const std::string& bytes, int root) {
  check_root(*this, "gather_bytes", root);
  const bool receives = rank_ == root;
  const auto length = static_cast<std::int64_t>(bytes.size());
  std::vector<std::int64_t> lengths(receives ? static_cast<std::size_t>(size_) : 0);
  Pending& sizes = begin("gather_bytes");
  check_mpi(MPI_Igather(&length, 1, MPI_INT64_T, lengths.data(), 1, MPI_INT64_T, root, comm_,
                        &sizes.request),
            "MPI_Igather");
  Request(&sizes).wait();

  std::int64_t total = 0;
  for (const std::int64_t part : lengths) total += part;
  std::string all(static_cast<std::size_t>(total), '\0');
  Pending& op = begin("gather_bytes");
  op.send_counts.push_back(mpi_count(length, "bytes of gather_bytes"));
  op.set_counts(lengths, op.recv_counts, op.recv_begins);
  check_mpi(
      MPI_Igatherv(bytes.data(), op.send_counts[0], MPI_BYTE, all.data(), op.recv_counts.data(),
                   op.recv_begins.data(), MPI_BYTE, root, comm_, &op.request),
      "MPI_Igatherv");
  Request(&op).wait();
  return all;
}

double MpiCommunicator::take_wait_seconds() { return std::exchange(wait_seconds_, 0.0); }

}  // namespace witan

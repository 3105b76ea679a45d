#include "parallel/mpi_communicator.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <limits>
#include <thread>
#include <utility>

#include "core/base/profile.h"
#include "parallel/collective_checks.h"
#include "parallel/sum_parts.h"

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
    case DType::kBfloat16: break;
  }
  WITAN_CHECK(false, "a collective over a tensor of ", name_of(dtype));
}

MPI_Op mpi_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum: return MPI_SUM;
    case ReduceOp::kMax: return MPI_MAX;
    case ReduceOp::kMin: return MPI_MIN;
  }
  return MPI_OP_NULL;
}

std::int64_t bytes_of(const TensorView& data) { return static_cast<std::int64_t>(data.bytes()); }

int mpi_count(std::int64_t count, const char* what) {
  WITAN_CHECK(count <= std::numeric_limits<int>::max(), what, ": ", count,
              " in one operation exceed MPI's 32-bit counts");
  return static_cast<int>(count);
}

// What a rank does between two looks at an operation that is not finished: looks again at once for
// a while (longer where it has a core of its own), then lets another process of its core run, and
// sleeps only in waits so long that the others must be busy elsewhere: MPI moves data only while it
// is polled.
void pause(int looks, double waited_seconds, double eager_seconds) {
  constexpr int kEagerLooks = 100;
  constexpr double kPatience = 0.5;
  if (looks < kEagerLooks || waited_seconds < eager_seconds) return;
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

// One operation in flight. The count arrays belong to it, since MPI reads them until it has
// finished, and keep their capacity for the next one.
class MpiCommunicator::Pending final : public Request::Impl {
 public:
  explicit Pending(MpiCommunicator& owner) : owner_(owner) {}

  void wait() override {
    {
      const ProfileScope waiting(operation, owner_.name_.c_str());
      owner_.poll(*this);
    }
    transfer.finish(operation, owner_.name_.c_str());
    if (scratch == nullptr) return;
    sum_parts(own_part, arrived, owner_.rank_, owner_.size_, sum);
    owner_.scratch_.give_back(*std::exchange(scratch, nullptr));
  }
  void release() noexcept override { owner_.pool_.give_back(*this); }

  void start(const char* op, std::int64_t number, std::int64_t bytes) {
    operation = op;
    sequence = number;
    transfer.start(bytes);
    send_counts.clear();
    recv_counts.clear();
  }
  // Counts and where each rank's rows begin.
  void set_counts(std::span<const std::int64_t> counts, std::vector<int>& out,
                  std::vector<int>& begins) const {
    out.clear();
    begins.clear();
    std::int64_t begin = 0;
    for (const std::int64_t count : counts) {
      begins.push_back(mpi_count(begin, operation));
      out.push_back(mpi_count(count, operation));
      begin += count;
    }
  }

  MPI_Request request = MPI_REQUEST_NULL;
  const char* operation = "";
  std::int64_t sequence = 0;
  ProfileTransfer transfer;
  std::vector<int> send_counts, send_begins, recv_counts, recv_begins;
  // reduce_scatter_sum only: what wait() adds up.
  Arena* scratch = nullptr;
  TensorView own_part, arrived, sum;

 private:
  MpiCommunicator& owner_;
};

MpiCommunicator::MpiCommunicator(MPI_Comm comm, std::string name, double watchdog_seconds,
                                 double eager_seconds)
    : comm_(comm),
      name_(std::move(name)),
      watchdog_(watchdog_seconds),
      eager_seconds_(eager_seconds) {
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

MpiCommunicator::Pending& MpiCommunicator::begin(const char* operation, std::int64_t bytes) {
  Pending& pending = pool_.take(*this);
  pending.start(operation, ++sequence_, bytes);
  return pending;
}

template <class Done>
void MpiCommunicator::poll_until(const Done& done, const CollectiveCall& call) {
  const auto start = Clock::now();
  for (int looks = 0; !done(); ++looks) {
    const double waited = seconds_since(start);
    if (watchdog_.expired(waited)) watchdog_.bark(call, waited);
    pause(looks, waited, eager_seconds_);
  }
  wait_seconds_ += seconds_since(start);
}

void MpiCommunicator::poll(Pending& pending) {
  const auto done = [&] {
    int finished = 0;
    check_mpi(MPI_Test(&pending.request, &finished, MPI_STATUS_IGNORE), pending.operation);
    return finished != 0;
  };
  poll_until(done, {.operation = pending.operation,
                    .communicator = name_.c_str(),
                    .rank = rank_,
                    .size = size_,
                    .sequence = pending.sequence,
                    .send_counts = pending.send_counts,
                    .recv_counts = pending.recv_counts});
}

void MpiCommunicator::wait_until(const char* operation, std::int64_t number,
                                 const std::function<bool()>& ready) {
  if (ready()) return;
  const ProfileScope waiting(operation, name_.c_str());
  int looks = 0;
  const auto done = [&] {
    constexpr int kLooksWithoutMpi = 16;  // a look into MPI takes as long as many at a flag
    if (++looks % kLooksWithoutMpi == 0) {
      int arrived = 0;
      check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm_, &arrived, MPI_STATUS_IGNORE),
                "MPI_Iprobe");
    }
    return ready();
  };
  poll_until(done, {.operation = operation,
                    .communicator = name_.c_str(),
                    .rank = rank_,
                    .size = size_,
                    .sequence = number});
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
  check_place(*this, "all_to_all_v", {}, {from, to});
  check_all_to_all_v(*this, from, send_counts, to, recv_counts);
  auto* row = row_type(from.dtype, from.cols());
  const std::int64_t own = send_counts[static_cast<std::size_t>(rank_)];
  Pending& op = begin("all_to_all_v", bytes_of(from) - bytes_of(from.slice_rows(0, own)));
  op.set_counts(send_counts, op.send_counts, op.send_begins);
  op.set_counts(recv_counts, op.recv_counts, op.recv_begins);
  check_mpi(MPI_Ialltoallv(from.data, op.send_counts.data(), op.send_begins.data(), row, to.data,
                           op.recv_counts.data(), op.recv_begins.data(), row, comm_, &op.request),
            "MPI_Ialltoallv");
  return Request(&op);
}

Request MpiCommunicator::all_to_all(const TensorView& from, const TensorView& to) {
  check_place(*this, "all_to_all", {}, {from, to});
  check_all_to_all(*this, from, to);
  auto* row = row_type(from.dtype, from.cols());
  Pending& op = begin("all_to_all", bytes_of(from) / size_ * (size_ - 1));
  check_mpi(MPI_Ialltoall(from.data, 1, row, to.data, 1, row, comm_, &op.request), "MPI_Ialltoall");
  return Request(&op);
}

Request MpiCommunicator::all_reduce(const TensorView& data, ReduceOp reduce) {
  check_place(*this, "all_reduce", {}, {data});
  const int count = mpi_count(data.size(), "elements of all_reduce");
  // As a ring sends it: a reduce-scatter and an all-gather.
  Pending& op = begin("all_reduce", 2 * bytes_of(data) / size_ * (size_ - 1));
  op.send_counts.push_back(count);
  check_mpi(MPI_Iallreduce(MPI_IN_PLACE, data.data, count, mpi_type(data.dtype), mpi_op(reduce),
                           comm_, &op.request),
            "MPI_Iallreduce");
  return Request(&op);
}

// Every rank gets the others' parts and adds them up itself: each element crosses the network once
// and is summed in the order of the ranks, whatever the MPI library.
Request MpiCommunicator::reduce_scatter_sum(const TensorView& from, const TensorView& to) {
  check_place(*this, "reduce_scatter_sum", {}, {from, to});
  check_parts(*this, "reduce_scatter_sum", from, to);
  const std::int64_t part = to.size();
  auto* row = row_type(to.dtype, part);
  Pending& op = begin("reduce_scatter_sum", bytes_of(from) - bytes_of(to));
  op.scratch = &scratch_.take(static_cast<std::size_t>(from.bytes() - to.bytes()));
  op.arrived = op.scratch->allocate({size_ - 1, part}, to.dtype, op.operation);
  op.own_part = from.reshape({size_, part}).slice_rows(rank_, 1);
  op.sum = to;
  op.send_begins.clear();
  op.recv_begins.clear();
  for (int peer = 0; peer < size_; ++peer) {
    const int count = peer == rank_ ? 0 : 1;
    op.send_counts.push_back(count);
    op.recv_counts.push_back(count);
    op.send_begins.push_back(peer);
    op.recv_begins.push_back(peer <= rank_ ? peer : peer - 1);
  }
  check_mpi(
      MPI_Ialltoallv(from.data, op.send_counts.data(), op.send_begins.data(), row, op.arrived.data,
                     op.recv_counts.data(), op.recv_begins.data(), row, comm_, &op.request),
      "MPI_Ialltoallv");
  return Request(&op);
}

Request MpiCommunicator::reduce_sum(const TensorView& data, int root) {
  check_place(*this, "reduce_sum", {}, {data});
  check_root(*this, "reduce_sum", root);
  const int count = mpi_count(data.size(), "elements of reduce_sum");
  Pending& op = begin("reduce_sum", rank_ == root ? 0 : bytes_of(data));
  op.send_counts.push_back(count);
  check_mpi(MPI_Ireduce(rank_ == root ? MPI_IN_PLACE : data.data, data.data, count,
                        mpi_type(data.dtype), MPI_SUM, root, comm_, &op.request),
            "MPI_Ireduce");
  return Request(&op);
}

Request MpiCommunicator::all_gather(const TensorView& from, const TensorView& to) {
  check_place(*this, "all_gather", {}, {from, to});
  check_parts(*this, "all_gather", to, from);
  const int count = mpi_count(from.size(), "elements of all_gather");
  Pending& op = begin("all_gather", bytes_of(from) * (size_ - 1));
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
  check_place(*this, "all_gather_v", {}, {from, to});
  check_all_gather_v(*this, from, to, counts);
  auto* row = row_type(to.dtype, to.cols());
  Pending& op = begin("all_gather_v", bytes_of(from) * (size_ - 1));
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
  check_place(*this, "broadcast", {}, {data});
  check_root(*this, "broadcast", root);
  const int count = mpi_count(data.size(), "elements of broadcast");
  Pending& op = begin("broadcast", rank_ == root ? bytes_of(data) : 0);
  op.send_counts.push_back(count);
  check_mpi(MPI_Ibcast(data.data, count, mpi_type(data.dtype), root, comm_, &op.request),
            "MPI_Ibcast");
  return Request(&op);
}

void MpiCommunicator::barrier() {
  Pending& op = begin("barrier", 0);
  check_mpi(MPI_Ibarrier(comm_, &op.request), "MPI_Ibarrier");
  Request(&op).wait();
}

void MpiCommunicator::broadcast_range(char* data, std::int64_t bytes, int root) {
  constexpr std::int64_t kMostBytes = std::int64_t{1} << 30;
  for (std::int64_t begin_byte = 0; begin_byte < bytes; begin_byte += kMostBytes) {
    const int count = static_cast<int>(std::min(kMostBytes, bytes - begin_byte));
    Pending& op = begin("broadcast_bytes", rank_ == root ? count : 0);
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
  Pending& sizes = begin("gather_bytes", sizeof length);
  check_mpi(MPI_Igather(&length, 1, MPI_INT64_T, lengths.data(), 1, MPI_INT64_T, root, comm_,
                        &sizes.request),
            "MPI_Igather");
  Request(&sizes).wait();

  std::int64_t total = 0;
  for (const std::int64_t part : lengths) total += part;
  std::string all(static_cast<std::size_t>(total), '\0');
  Pending& op = begin("gather_bytes", length);
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

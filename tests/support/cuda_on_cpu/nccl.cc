#include "tests/support/cuda_on_cpu/nccl.h"

#include <mpi.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/cuda_on_cpu/fault.h"
#include "tests/support/cuda_on_cpu/memory.h"
#include "tests/support/cuda_on_cpu/streams.h"

struct ncclComm {
  MPI_Comm mpi = MPI_COMM_NULL;
  int ranks = 1;
  std::size_t called = 0;   // operations (groups) so far,
  std::size_t started = 0;  // and how many of them have started
  std::atomic<bool> aborted = false;
  void* buffers = nullptr;  // device memory that the library takes for itself
};

namespace {

using namespace witan::cuda_on_cpu;

constexpr int kInitTag = 7001;
constexpr int kRowsTag = 1;  // of every send: those between two ranks arrive in their order

std::size_t bytes_of(ncclDataType_t type) {
  return type == ncclInt32 || type == ncclFloat32 ? 4 : 8;
}

MPI_Datatype mpi_type(ncclDataType_t type) {
  switch (type) {
    case ncclInt32: return MPI_INT32_T;
    case ncclInt64: return MPI_INT64_T;
    case ncclFloat32: return MPI_FLOAT;
    case ncclFloat64: return MPI_DOUBLE;
  }
  return MPI_DATATYPE_NULL;
}

MPI_Op mpi_op(ncclRedOp_t op) {
  return op == ncclSum ? MPI_SUM : op == ncclMax ? MPI_MAX : MPI_MIN;
}

// A part of an operation: host copies of what is sent and received, and MPI's request. MPI moves
// host memory, since device memory can be touched only while work of a stream runs.
struct Part {
  const void* from = nullptr;
  void* to = nullptr;
  std::size_t sent_bytes = 0, received_bytes = 0;
  std::function<void(Part&, const ncclComm&)> start;
  bool one_sided = false;  // a receive: its size is looked at

  std::vector<char> sent = {}, received = {};
  MPI_Request request = MPI_REQUEST_NULL;
  bool done = false;

  bool finished() {
    if (done) return true;
    int flag = 0;
    MPI_Status status;
    if (PMPI_Test(&request, &flag, &status) != MPI_SUCCESS) {
      report_fault(cudaErrorLaunchFailure, "NCCL: MPI refused an operation");
      return done = true;
    }
    done = flag != 0;
    int count = 0;
    if (done && one_sided && MPI_Get_count(&status, MPI_BYTE, &count) == MPI_SUCCESS &&
        static_cast<std::size_t>(count) != received_bytes) {
      report_fault(cudaErrorLaunchFailure, "NCCL: received " + std::to_string(count) +
                                               " bytes where " + std::to_string(received_bytes) +
                                               " were expected");
    }
    return done;
  }
};

struct Call {
  ncclComm_t comm;
  cudaStream_t stream;
  Part part;
};

constexpr std::size_t kBufferBytes = std::size_t{64} << 10;  // of a communicator
const char* last_error = "the stand-in for NCCL";
int group_depth = 0;
std::vector<Call> calls;  // of the open group

void start(std::vector<Part>& parts, ncclComm& comm) {
  const DeviceMemoryOpen opened;
  for (Part& part : parts) {
    const auto* from = static_cast<const char*>(part.from);
    part.sent.assign(from, from + part.sent_bytes);
    part.received.resize(part.received_bytes);
    part.start(part, comm);
  }
}

void finish(const std::vector<Part>& parts) {
  const DeviceMemoryOpen opened;
  for (const Part& part : parts) {
    if (part.received_bytes > 0) std::memcpy(part.to, part.received.data(), part.received_bytes);
  }
}

// The parts of one communicator on one stream: begun together, finished together.
void enqueue(ncclComm& comm, cudaStream_t stream, std::vector<Part> list) {
  const auto parts = std::make_shared<std::vector<Part>>(std::move(list));
  const std::size_t turn = comm.called++;
  enqueue_task(
      stream, [&comm, turn] { return comm.aborted || comm.started == turn; },
      [&comm, parts] {
        if (!comm.aborted) start(*parts, comm);
        ++comm.started;
      });
  enqueue_task(
      stream,
      [&comm, parts] {
        if (comm.aborted) return true;
        bool done = true;
        for (Part& part : *parts) done = part.finished() && done;
        return done;
      },
      [&comm, parts] {
        if (!comm.aborted) finish(*parts);
      });
}

ncclResult_t add(ncclComm_t comm, cudaStream_t stream, Part part) {
  if (fault_status() != cudaSuccess) return ncclUnhandledCudaError;
  const bool sends = part.sent_bytes == 0 || is_allocated(part.from, part.sent_bytes);
  const bool receives = part.received_bytes == 0 || is_allocated(part.to, part.received_bytes);
  if (!sends || !receives) {
    report_fault(cudaErrorIllegalAddress, "NCCL: an operand that is no live device memory");
    return ncclInvalidArgument;
  }
  ncclGroupStart();
  calls.push_back({comm, stream, std::move(part)});
  return ncclGroupEnd();
}

}  // namespace

// While the host waits for other processes in MPI, the device goes on: both that the program's
// waits call come by here.
int MPI_Test(MPI_Request* request, int* flag, MPI_Status* status) {
  run_a_little();
  return PMPI_Test(request, flag, status);
}
int MPI_Iprobe(int source, int tag, MPI_Comm comm, int* flag, MPI_Status* status) {
  run_a_little();
  return PMPI_Iprobe(source, tag, comm, flag, status);
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    default: return "internal error";
  }
}

const char* ncclGetLastError(ncclComm_t) { return last_error; }

ncclResult_t ncclGetVersion(int* version) {
  const char* other = std::getenv("WITAN_STAND_IN_NCCL_VERSION");
  *version = other == nullptr ? NCCL_VERSION_CODE : std::atoi(other);
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static int ids = 0;
  int words[2] = {0, ids++};
  MPI_Comm_rank(MPI_COMM_WORLD, &words[0]);
  std::memcpy(id->internal, words, sizeof words);
  return ncclSuccess;
}

// The rank that made the id collects who belongs to it.
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  int words[2];
  std::memcpy(words, id.internal, sizeof words);
  int world_rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
  const int mine[2] = {rank, world_rank};
  std::vector<int> members(static_cast<std::size_t>(ranks), -1);
  if (world_rank == words[0]) {
    members[static_cast<std::size_t>(rank)] = world_rank;
    for (int i = 1; i < ranks; ++i) {
      int theirs[2];
      MPI_Recv(theirs, 2, MPI_INT, MPI_ANY_SOURCE, kInitTag + words[1], MPI_COMM_WORLD,
               MPI_STATUS_IGNORE);
      members[static_cast<std::size_t>(theirs[0])] = theirs[1];
    }
    for (const int member : members) {
      if (member == world_rank) continue;
      MPI_Send(members.data(), ranks, MPI_INT, member, kInitTag + words[1], MPI_COMM_WORLD);
    }
  } else {
    MPI_Send(mine, 2, MPI_INT, words[0], kInitTag + words[1], MPI_COMM_WORLD);
    MPI_Recv(members.data(), ranks, MPI_INT, words[0], kInitTag + words[1], MPI_COMM_WORLD,
             MPI_STATUS_IGNORE);
  }
  MPI_Group world = MPI_GROUP_NULL;
  MPI_Group group = MPI_GROUP_NULL;
  MPI_Comm_group(MPI_COMM_WORLD, &world);
  MPI_Group_incl(world, ranks, members.data(), &group);
  *comm = new ncclComm;
  (*comm)->ranks = ranks;
  MPI_Comm_create_group(MPI_COMM_WORLD, group, kInitTag + words[1], &(*comm)->mpi);
  MPI_Comm_set_errhandler((*comm)->mpi, MPI_ERRORS_RETURN);
  MPI_Group_free(&group);
  MPI_Group_free(&world);
  if (cudaMalloc(&(*comm)->buffers, kBufferBytes) == cudaErrorMemoryAllocation) {
    last_error = "Cuda failure 2 'out of memory'";
    return ncclUnhandledCudaError;
  }
  return fault_status() == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

// Waits for what is enqueued, as the library does. Work of the streams names the communicator, so
// that an aborted one stays.
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  run_everything();
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized == 0) MPI_Comm_free(&comm->mpi);
  (void)cudaFree(comm->buffers);
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->aborted = true;
  // Freeing waits for the device. A thread that watches aborts what the run then ends with.
  if (may_run_work()) (void)cudaFree(std::exchange(comm->buffers, nullptr));
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* error) {
  *error = fault_status() == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group_depth == 0) return ncclInvalidUsage;
  if (--group_depth > 0) return ncclSuccess;
  std::vector<Call> group;
  group.swap(calls);
  while (!group.empty()) {
    const ncclComm_t comm = group.front().comm;
    const cudaStream_t stream = group.front().stream;
    std::vector<Part> parts;
    std::vector<Call> others;
    for (Call& call : group) {
      if (call.comm == comm && call.stream == stream) {
        parts.push_back(std::move(call.part));
      } else {
        others.push_back(std::move(call));
      }
    }
    enqueue(*comm, stream, std::move(parts));
    group = std::move(others);
  }
  return ncclSuccess;
}

ncclResult_t ncclSend(const void* data, std::size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  const auto start = [peer](Part& part, const ncclComm& group) {
    MPI_Isend(part.sent.data(), static_cast<int>(part.sent_bytes), MPI_BYTE, peer, kRowsTag,
              group.mpi, &part.request);
  };
  return add(comm, stream, {data, nullptr, count * bytes_of(type), 0, start});
}

ncclResult_t ncclRecv(void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  const auto start = [peer](Part& part, const ncclComm& group) {
    MPI_Irecv(part.received.data(), static_cast<int>(part.received_bytes), MPI_BYTE, peer, kRowsTag,
              group.mpi, &part.request);
  };
  return add(comm, stream, {nullptr, data, 0, count * bytes_of(type), start, true});
}

ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  const auto start = [count, type, op](Part& part, const ncclComm& group) {
    MPI_Iallreduce(part.sent.data(), part.received.data(), static_cast<int>(count), mpi_type(type),
                   mpi_op(op), group.mpi, &part.request);
  };
  const std::size_t bytes = count * bytes_of(type);
  return add(comm, stream, {from, to, bytes, bytes, start});
}

ncclResult_t ncclReduce(const void* from, void* to, std::size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream) {
  const auto start = [root, count, type, op](Part& part, const ncclComm& group) {
    MPI_Ireduce(part.sent.data(), part.received.data(), static_cast<int>(count), mpi_type(type),
                mpi_op(op), root, group.mpi, &part.request);
  };
  const std::size_t bytes = count * bytes_of(type);
  int rank = 0;
  MPI_Comm_rank(comm->mpi, &rank);
  return add(comm, stream, {from, to, bytes, rank == root ? bytes : 0, start});
}

ncclResult_t ncclReduceScatter(const void* from, void* to, std::size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  const auto start = [count, type, op](Part& part, const ncclComm& group) {
    MPI_Ireduce_scatter_block(part.sent.data(), part.received.data(), static_cast<int>(count),
                              mpi_type(type), mpi_op(op), group.mpi, &part.request);
  };
  const std::size_t bytes = count * bytes_of(type);
  return add(comm, stream, {from, to, bytes * static_cast<std::size_t>(comm->ranks), bytes, start});
}

ncclResult_t ncclAllGather(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  const auto start = [count, type](Part& part, const ncclComm& group) {
    MPI_Iallgather(part.sent.data(), static_cast<int>(count), mpi_type(type), part.received.data(),
                   static_cast<int>(count), mpi_type(type), group.mpi, &part.request);
  };
  const std::size_t bytes = count * bytes_of(type);
  return add(comm, stream, {from, to, bytes, bytes * static_cast<std::size_t>(comm->ranks), start});
}

ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  const auto start = [root, count, type](Part& part, const ncclComm& group) {
    part.received.assign(part.sent.begin(), part.sent.end());
    MPI_Ibcast(part.received.data(), static_cast<int>(count), mpi_type(type), root, group.mpi,
               &part.request);
  };
  const std::size_t bytes = count * bytes_of(type);
  return add(comm, stream, {from, to, bytes, bytes, start});
}

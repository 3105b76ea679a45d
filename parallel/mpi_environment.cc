#include "parallel/mpi_environment.h"

#include <mpi.h>
#include <sched.h>

#include <cstdlib>
#include <exception>
#include <string>

#include "parallel/mpi_communicator.h"

namespace witan {
namespace {

bool mpi_is_running() {
  int started = 0;
  int ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  return started != 0 && ended == 0;
}

// Of this rank; a rank that is bound to one core therefore counts as sharing it.
int cores_in_mask() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  return sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : 1;
}

}  // namespace

std::string mpi_library_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  check_mpi(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
  const std::string version(text);
  return version.substr(0, version.find(','));
}

MpiEnvironment::MpiEnvironment(int* argc, char*** argv) : owns_mpi_(!mpi_is_running()) {
  int provided = MPI_THREAD_SINGLE;
  if (owns_mpi_) {
    check_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  } else {
    check_mpi(MPI_Query_thread(&provided), "MPI_Query_thread");
  }
  WITAN_CHECK(provided >= MPI_THREAD_FUNNELED, "this MPI does not support MPI_THREAD_FUNNELED");
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
  if (size_ == 1) return;

  MPI_Comm local = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local),
            "MPI_Comm_split_type");
  check_mpi(MPI_Comm_rank(local, &local_rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(local, &local_size_), "MPI_Comm_size");
  constexpr double kEagerSeconds = 1e-3;
  if (cores_in_mask() >= local_size_) eager_seconds_ = kEagerSeconds;
  // Each node is counted, and numbered, by its first rank.
  const int leads = local_rank_ == 0 ? 1 : 0;
  int leaders_up_to_here = 0;
  check_mpi(MPI_Scan(&leads, &leaders_up_to_here, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD), "MPI_Scan");
  node_ = leaders_up_to_here - 1;
  check_mpi(MPI_Bcast(&node_, 1, MPI_INT, 0, local), "MPI_Bcast");
  check_mpi(MPI_Allreduce(&leads, &nodes_, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD), "MPI_Allreduce");
  check_mpi(MPI_Comm_free(&local), "MPI_Comm_free");
}

MpiEnvironment::~MpiEnvironment() {
  if (owns_mpi_ && mpi_is_running() && std::uncaught_exceptions() == 0) MPI_Finalize();
}

std::unique_ptr<Communicator> MpiEnvironment::world(double watchdog_seconds) const {
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  return std::make_unique<MpiCommunicator>(comm, "world", watchdog_seconds, eager_seconds_);
}

std::unique_ptr<Communicator> MpiEnvironment::split(int color, const char* name,
                                                    double watchdog_seconds) const {
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(MPI_COMM_WORLD, color, rank_, &comm), "MPI_Comm_split");
  return std::make_unique<MpiCommunicator>(comm, name, watchdog_seconds, eager_seconds_);
}

void MpiEnvironment::abort(int code) {
  if (mpi_is_running()) MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace witan

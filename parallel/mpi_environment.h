// Start and end of MPI. A program started without mpirun is a one-rank world.
//
// Make it outside the try block of main(): destroyed by an exception it does not finalize MPI,
// since that waits for ranks that may be waiting for this one, and the launcher then ends the run.
#pragma once

#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace witan {

// "Open MPI v4.1.4, ...", also before MPI starts.
std::string mpi_library_version();

class MpiEnvironment {
 public:
  // MPI_THREAD_FUNNELED: only the main thread communicates. If MPI runs already (tests), it is used
  // and left running. Collective.
  MpiEnvironment(int* argc, char*** argv);
  ~MpiEnvironment();
  MpiEnvironment(const MpiEnvironment&) = delete;
  MpiEnvironment& operator=(const MpiEnvironment&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  int local_rank() const { return local_rank_; }  // among the ranks of this node
  int local_size() const { return local_size_; }
  int node() const { return node_; }  // 0 .. nodes() - 1, in order of each node's lowest rank
  int nodes() const { return nodes_; }

  // The whole world, or the ranks that give the same color (ordered by world rank). Collective over
  // the world.
  std::unique_ptr<Communicator> world(double watchdog_seconds) const;
  std::unique_ptr<Communicator> split(int color, const char* name, double watchdog_seconds) const;

  // Ends every rank at once with this exit code. Does not return.
  [[noreturn]] static void abort(int code);

 private:
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  int node_ = 0, nodes_ = 1;
  bool owns_mpi_ = false;
  double eager_seconds_ = 0.0;  // of a wait: above 0 where every rank of this node has a core
};

}  // namespace witan

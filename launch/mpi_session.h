// MPI for the subcommands that need it: started by the first call of mpi_session(), ended by
// main().
#pragma once

#include "parallel/mpi_environment.h"

namespace witan {

MpiEnvironment& mpi_session();

// Whether mpi_session() was called.
bool mpi_session_active();

// Orderly end (collective); nothing happens if MPI was never started.
void finish_mpi_session();

}  // namespace witan

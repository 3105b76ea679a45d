#include "launch/mpi_session.h"

#include <memory>

#include "core/base/error.h"

namespace witan {
namespace {
std::unique_ptr<MpiEnvironment> session;  // NOLINT: lives until finish_mpi_session()
}  // namespace

MpiEnvironment& mpi_session() {
  if (session == nullptr) {
    session = std::make_unique<MpiEnvironment>(nullptr, nullptr);
    set_error_rank(session->rank());
  }
  return *session;
}

bool mpi_session_active() { return session != nullptr; }

void finish_mpi_session() { session.reset(); }

}  // namespace witan

#include "core/base/error.h"
#include "parallel/device_communicator.h"

namespace witan {

bool built_with_nccl() { return false; }

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator>, const Context&,
                                                     double) {
  throw_user_error(
      "parallel.device_transport: NCCL was asked for, but this witan was built without it; "
      "configure where NCCL is found, or use STAGED_MPI");
}

}  // namespace witan

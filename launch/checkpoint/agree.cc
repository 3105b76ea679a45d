#include "launch/checkpoint/agree.h"

#include "core/base/error.h"

namespace witan {

std::string Attempt::agree(Communicator& world) const {
  std::string line;
  if (failed()) {
    line = "\n  ";
    if (world.size() > 1) line += "rank " + std::to_string(world.rank()) + ": ";
    line += error_;
  }
  std::string all = world.gather_bytes(line, 0);
  world.broadcast_bytes(all, 0);
  return all;
}

void Attempt::throw_together(Communicator& world, const std::string& what) const {
  const std::string errors = agree(world);
  if (!errors.empty()) throw_user_error(what, ":", errors);
}

}  // namespace witan

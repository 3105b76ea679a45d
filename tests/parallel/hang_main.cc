// A small distributed program for hang_test.sh: rank 1 goes wrong in the way that the argument
// names, while the others exchange rows with it.
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "parallel/mpi_environment.h"
#include "parallel/watchdog.h"

namespace witan {
namespace {

constexpr int kGoodSteps = 5;

void step(Communicator& world) {
  const auto size = static_cast<std::size_t>(world.size());
  const std::vector<std::int64_t> counts(size, 2);
  std::vector<float> from(2 * size * 3, 1.0F), to(from.size());
  const Shape shape = {2 * world.size(), 3};
  world.all_to_all_v(view_of(from.data(), shape), counts, view_of(to.data(), shape), counts).wait();
}

void go_wrong(const std::string& how) {
  if (how == "sleep") std::this_thread::sleep_for(std::chrono::minutes(10));
  if (how == "kill" || how == "kill, SIGTERM is handled") std::raise(SIGKILL);
  if (how == "throw") throw Error("this rank cannot go on");
}

int run(const MpiEnvironment& mpi, const std::string& how, double watchdog_seconds) {
  const auto world = mpi.world(watchdog_seconds);
  for (int i = 0; i < kGoodSteps; ++i) step(*world);
  if (mpi.rank() == 1) go_wrong(how);
  step(*world);
  return 0;
}

}  // namespace
}  // namespace witan

int main(int argc, char** argv) {
  const witan::MpiEnvironment mpi(&argc, &argv);
  // As a trainer does that finishes its step when it is asked to stop.
  if (std::string(argv[1]) == "kill, SIGTERM is handled")
    std::signal(SIGTERM, [](int) { witan::shorten_waits(1.0); });
  try {
    return witan::run(mpi, argv[1], std::stod(argv[2]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    witan::MpiEnvironment::abort(1);
  }
}

// A small distributed program for hang_test.sh: rank 1 goes wrong in the way that the argument
// names, while the others exchange rows with it.
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "parallel/ep_token_exchange.h"
#include "parallel/mpi_environment.h"
#include "parallel/watchdog.h"

namespace witan {
namespace {

constexpr int kGoodSteps = 5;

class Steps {
 public:
  virtual ~Steps() = default;
  virtual void step() = 0;
};

class AllToAllSteps final : public Steps {
 public:
  explicit AllToAllSteps(Communicator& world) : world_(world) {}
  void step() override {
    const auto size = static_cast<std::size_t>(world_.size());
    const std::vector<std::int64_t> counts(size, 2);
    std::vector<float> from(2 * size * 3, 1.0F), to(from.size());
    const Shape shape = {2 * world_.size(), 3};
    world_.all_to_all_v(view_of(from.data(), shape), counts, view_of(to.data(), shape), counts)
        .wait();
  }

 private:
  Communicator& world_;
};

// Rows through shared memory: nobody is in MPI while it waits. Every token goes to every rank.
class WindowSteps final : public Steps {
 public:
  explicit WindowSteps(Communicator& world)
      : exchange_(make_token_exchange(world, {.transport = ExchangeTransport::kSharedWindows})) {
    const std::int64_t ranks = world.size();
    std::vector<std::int32_t> indices;
    for (std::int32_t i = 0; i < 2 * ranks; ++i)
      indices.push_back(i % static_cast<std::int32_t>(ranks));
    exchange_->plan({}, view_of(indices.data(), {2, ranks}), ranks, {}, arena_, plan_);
  }
  void step() override {
    std::vector<float> x(2 * 3, 1.0F), y(x.size());
    const TensorView y_view = view_of(y.data(), {2, 3});
    exchange_->dispatch({}, plan_, view_of(x.data(), {2, 3}), arena_);
    const TensorView rows = exchange_->combine_input(plan_, y_view, arena_);
    exchange_->combine({}, plan_, rows, y_view);
  }

 private:
  std::unique_ptr<TokenExchange> exchange_;
  Arena arena_;
  ExchangePlan plan_;
};

std::unique_ptr<Steps> make_steps(Communicator& world, const std::string& how) {
  if (how.find("in windows") == std::string::npos) return std::make_unique<AllToAllSteps>(world);
  return std::make_unique<WindowSteps>(world);
}

void go_wrong(const std::string& how) {
  if (how.starts_with("sleep")) std::this_thread::sleep_for(std::chrono::minutes(10));
  if (how.starts_with("kill")) std::raise(SIGKILL);
  if (how == "throw") throw Error("this rank cannot go on");
}

int run(const MpiEnvironment& mpi, const std::string& how, double watchdog_seconds) {
  const auto world = mpi.world(watchdog_seconds);
  const auto steps = make_steps(*world, how);
  for (int i = 0; i < kGoodSteps; ++i) steps->step();
  if (mpi.rank() == 1) go_wrong(how);
  steps->step();
  return 0;
}

}  // namespace
}  // namespace witan

int main(int argc, char** argv) {
  const witan::MpiEnvironment mpi(&argc, &argv);
  // As a trainer does that finishes its step when it is asked to stop.
  if (std::string(argv[1]).ends_with("SIGTERM is handled"))
    std::signal(SIGTERM, [](int) { witan::shorten_waits(1.0); });
  try {
    return witan::run(mpi, argv[1], std::stod(argv[2]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    witan::MpiEnvironment::abort(1);
  }
}

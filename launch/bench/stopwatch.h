// Timings of things that are measured in turns, so that whatever else the machine does hits all of
// them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/context.h"
#include "core/base/device_timer.h"
#include "launch/bench/spread.h"
#include "parallel/communicator.h"
#include "parallel/raw_mpi.h"

namespace witan {

// kCpu: the processor time that the threads of OpenMP were given, divided by their number. It
// leaves out what other programs take from the cores, and does not see threads that wait asleep. On
// a GPU it is always the time between two events of the stream.
enum class BenchClock { kWall, kCpu };

class Stopwatch {
 public:
  Stopwatch(Communicator& world, BenchClock clock, const Context& ctx = {})
      : world_(&world), clock_(clock), ctx_(ctx) {
    if (ctx.device.is_cuda()) timer_ = std::make_shared<DeviceTimer>(ctx.device);
  }

  // Collective: all ranks start together, each times its own part.
  template <class F>
  void time(const std::string& what, const F& f) {
    world_->barrier();
    if (timer_) {
      timer_->start(ctx_);
      f();
      timer_->stop(ctx_);
      return add(what, timer_->seconds());
    }
    const double start = now();
    f();
    add(what, now() - start);
  }
  // Collective: f runs on rank 0 only, on `threads` threads, while the others sleep.
  template <class F>
  void time_alone(const std::string& what, int threads, const RawMpi& mpi, const F& f) {
    double seconds = 0.0;
    world_->barrier();
    if (world_->rank() == 0) {
      const Threads use(threads);
      const double start = now();
      f();
      seconds = now() - start;
    }
    mpi.quiet_barrier();
    add(what, seconds);
  }
  // A time that was measured elsewhere.
  void add(const std::string& what, double seconds) { samples_[what].push_back(seconds); }

  // Of every turn the time of the slowest rank, and their spread. Collective; the same at all
  // ranks, which must have timed the same things.
  Spread seconds(const std::string& what) const;
  // The same for the sum of several things, turn by turn.
  Spread seconds_of_sum(const std::vector<std::string>& parts) const;

 private:
  // The number of threads, for a while.
  class Threads {
   public:
    explicit Threads(int threads);
    ~Threads();
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;

   private:
    int before_;
  };
  double now() const;
  std::vector<double> slowest(const std::string& what) const;

  Communicator* world_;
  BenchClock clock_;
  Context ctx_;
  std::shared_ptr<DeviceTimer> timer_;  // on a GPU
  std::map<std::string, std::vector<double>> samples_;
};

}  // namespace witan
